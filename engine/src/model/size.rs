//! Sizes as people write them: `64MiB`.

const UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// `64MiB` as bytes: a whole number and its unit, nothing else.
pub fn parse(text: &str) -> Option<u64> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// Bytes in the largest unit that leaves a whole number.
pub fn text(bytes: u64) -> String {
    let whole = UNITS.iter().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor));
    whole.map_or_else(|| "0B".to_owned(), |(unit, factor)| format!("{}{unit}", bytes / factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_they_are_written() {
        for (bytes, written) in
            [(64 << 20, "64MiB"), (1 << 30, "1GiB"), (1536, "1536B"), (1536 << 10, "1536KiB"), (0, "0B")]
        {
            assert_eq!(text(bytes), written);
            assert_eq!(parse(written), Some(bytes));
        }
        for bad in ["", "1", "MiB", "1mib", "1.5MiB", "-1B", "1 B", "1MiB ", "99999999999GiB"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
