//! What differs between two texts, line by line.

/// Most pairs of lines that are compared; texts beyond it are shown one after the other.
const PAIRS_MAX: usize = 4_000_000;

/// Lines that are only in `expected` with `-`, those only in `found` with `+`, the others with a blank.
pub(super) fn lines(expected: &str, found: &str) -> String {
    let (left, right): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), found.lines().collect());
    let mut text = String::new();
    let mut say = |sign: char, line: &str| {
        text.push(sign);
        text.push(' ');
        text.push_str(line);
        text.push('\n');
    };
    if left.len().saturating_mul(right.len()) > PAIRS_MAX {
        for line in left {
            say('-', line);
        }
        for line in right {
            say('+', line);
        }
        return text;
    }
    let common = common(&left, &right);
    let (mut at, mut other) = (0, 0);
    while at < left.len() || other < right.len() {
        if at < left.len() && other < right.len() && left[at] == right[other] {
            say(' ', left[at]);
            (at, other) = (at + 1, other + 1);
        } else if other == right.len() || (at < left.len() && common[at + 1][other] >= common[at][other + 1])
        {
            say('-', left[at]);
            at += 1;
        } else {
            say('+', right[other]);
            other += 1;
        }
    }
    text
}

/// Length of the longest common run of lines, in order, from each pair of places on.
fn common(left: &[&str], right: &[&str]) -> Vec<Vec<u32>> {
    let mut table = vec![vec![0; right.len() + 1]; left.len() + 1];
    for at in (0..left.len()).rev() {
        for other in (0..right.len()).rev() {
            table[at][other] = if left[at] == right[other] {
                table[at + 1][other + 1] + 1
            } else {
                table[at + 1][other].max(table[at][other + 1])
            };
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::lines;

    #[test]
    fn only_what_differs_is_marked() {
        assert_eq!(lines("a\nb\nc\n", "a\nx\nc\nd\n"), "  a\n- b\n+ x\n  c\n+ d\n");
        assert_eq!(lines("", "a"), "+ a\n");
        assert_eq!(lines("a", ""), "- a\n");
        assert_eq!(lines("same", "same"), "  same\n");
    }
}
