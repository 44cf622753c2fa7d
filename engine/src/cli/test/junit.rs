//! The results as JUnit XML, for those who gather such files.

use std::fmt::Write as _;
use std::time::Duration;

use super::Done;

/// The whole file: a suite for each test file.
pub(super) fn page(done: &[Done<'_>]) -> String {
    let mut page = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(page, "<testsuites name=\"hookmill test\" {}>", counts(done));
    for suite in done.chunk_by(|one, next| one.suite.file == next.suite.file) {
        let file = escaped(&suite[0].suite.file.display().to_string());
        let _ = writeln!(page, "  <testsuite name=\"{file}\" {}>", counts(suite));
        for one in suite {
            case(&mut page, one, &file);
        }
        page.push_str("  </testsuite>\n");
    }
    page.push_str("</testsuites>\n");
    page
}

fn counts(done: &[Done<'_>]) -> String {
    let failed = done.iter().filter(|one| !one.mismatches.is_empty()).count();
    let took: Duration = done.iter().map(|one| one.took).sum();
    format!("tests=\"{}\" failures=\"{failed}\" errors=\"0\" time=\"{:.6}\"", done.len(), took.as_secs_f64())
}

fn case(page: &mut String, one: &Done<'_>, file: &str) {
    let (name, took) = (escaped(one.name), one.took.as_secs_f64());
    let attributes = format!(
        "name=\"{name}\" classname=\"{file}\" file=\"{file}\" line=\"{}\" time=\"{took:.6}\"",
        one.line
    );
    let Some(first) = one.mismatches.first() else {
        let _ = writeln!(page, "    <testcase {attributes}/>");
        return;
    };
    let _ = writeln!(page, "    <testcase {attributes}>");
    let mut text = String::new();
    for mismatch in &one.mismatches {
        let _ = writeln!(text, "{}", said(&mismatch.place, &mismatch.text));
        if let Some(diff) = &mismatch.diff {
            let _ = writeln!(text, "{diff}");
        }
    }
    let message = escaped(&said(&first.place, &first.text));
    let _ = writeln!(page, "      <failure message=\"{message}\">{}</failure>", escaped(&text));
    page.push_str("    </testcase>\n");
}

fn said(place: &str, text: &str) -> String {
    if place.is_empty() { text.to_owned() } else { format!("{place}: {text}") }
}

/// As XML 1.0 can hold it, in text and in attributes. What no XML can hold becomes U+FFFD.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(letter),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            control if control < ' ' => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_xml_cannot_hold_is_replaced() {
        assert_eq!(
            escaped("a<b>&\"c\"\u{0}\n\u{1b}[31mä"),
            "a&lt;b&gt;&amp;&quot;c&quot;\u{fffd}\n\u{fffd}[31mä"
        );
    }
}
