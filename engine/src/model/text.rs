//! Texts as programs write them into files.

/// A text without the byte order mark that some programs put before it.
pub fn without_byte_order_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_is_no_part_of_a_text() {
        assert_eq!(without_byte_order_mark("\u{feff}{}"), "{}");
        assert_eq!(without_byte_order_mark("{}\u{feff}"), "{}\u{feff}");
    }
}
