//! Two texts, line by line: what was expected against what was found.

use std::fmt::Write as _;

use similar::{ChangeTag, TextDiff};

/// Lines around each difference.
const CONTEXT: usize = 3;
/// Most lines that are shown: a difference that is longer is better looked at elsewhere.
const LINES_MAX: usize = 200;

/// Lines that begin with `-` (expected), `+` (found) or a blank; what is the same far from any difference is left out.
pub(super) fn diff(expected: &str, found: &str) -> String {
    let diff = TextDiff::from_lines(expected, found);
    let mut lines = Vec::new();
    for (number, group) in diff.grouped_ops(CONTEXT).iter().enumerate() {
        if number > 0 {
            lines.push("  …".to_owned());
        }
        for change in group.iter().flat_map(|operation| diff.iter_changes(operation)) {
            let sign = match change.tag() {
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
                ChangeTag::Equal => ' ',
            };
            lines.push(format!("{sign} {}", change.value().trim_end_matches(['\r', '\n'])));
        }
    }
    if lines.len() > LINES_MAX {
        let left_out = lines.len() - LINES_MAX;
        lines.truncate(LINES_MAX);
        let _ = write!(lines[LINES_MAX - 1], "\n  … and {left_out} more lines");
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_differ_are_shown_with_what_is_around_them() {
        let lines =
            |from: u32, to: u32| (from..=to).fold(String::new(), |text, line| text + &format!("{line}\n"));
        let (expected, found) = (lines(1, 30), lines(1, 30).replace("\n5\n", "\nfive\n").replace("30\n", ""));
        let shown = "  2\n  3\n  4\n- 5\n+ five\n  6\n  7\n  8\n  …\n  27\n  28\n  29\n- 30";
        assert_eq!(diff(&expected, &found), shown);
        assert_eq!(diff("same", "same"), "");
        assert_eq!(diff("a", "b"), "- a\n+ b");
    }

    #[test]
    fn a_long_difference_is_cut() {
        let text = diff(&"a\n".repeat(1000), &"b\n".repeat(1000));
        assert_eq!(text.lines().count(), LINES_MAX + 1);
        assert!(text.ends_with("… and 1800 more lines"), "{text}");
    }
}
