//! Numbers of any size and precision, compared exactly.

use std::cmp::Ordering;

use hookmill_transform::serde_json::Number;

/// Compares by value: 1, 1.0 and 10e-1 are equal. Never through a float, which would round long identifiers.
pub(crate) fn compare(left: &Number, right: &Number) -> Ordering {
    let (left, right) = (Decimal::read(&left.to_string()), Decimal::read(&right.to_string()));
    match (left.sign, right.sign) {
        (-1, -1) => right.magnitude(&left),
        (1, 1) => left.magnitude(&right),
        (left, right) => left.cmp(&right),
    }
}

/// `sign` · 0.`digits` · 10 ^ `exponent`, with no zero at either end of the digits.
struct Decimal {
    sign: i8,
    digits: String,
    exponent: i64,
}

impl Decimal {
    /// Of a JSON number.
    fn read(text: &str) -> Self {
        let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = format!("{whole}{fraction}");
        let digits = all.trim_start_matches('0');
        let leading = length(&all) - length(digits);
        // An exponent that no i64 holds is as good as the largest.
        let limit = if exponent.starts_with('-') { i64::MIN } else { i64::MAX };
        let exponent = exponent.parse().unwrap_or(limit).saturating_add(length(whole) - leading);
        let digits = digits.trim_end_matches('0');
        if digits.is_empty() {
            return Self { sign: 0, digits: String::new(), exponent: 0 };
        }
        Self { sign: if negative { -1 } else { 1 }, digits: digits.to_owned(), exponent }
    }

    fn magnitude(&self, other: &Self) -> Ordering {
        self.exponent.cmp(&other.exponent).then_with(|| self.digits.cmp(&other.digits))
    }
}

fn length(text: &str) -> i64 {
    i64::try_from(text.len()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Number {
        text.parse().expect("a JSON number")
    }

    #[test]
    fn numbers_are_ordered_by_value_however_they_are_written() {
        let ascending = [
            &["-1e400"][..],
            &["-20", "-2.0e1"],
            &["-3"],
            &["-0.5", "-5e-1"],
            &["0", "-0", "0.0", "0e9"],
            &["1e-400", "0.1e-399"],
            &["0.099"],
            &["0.1", "0.10"],
            &["1", "1.0", "10e-1", "0.01E2"],
            &["9.99"],
            &["10", "1e1", "1e+1"],
            &["9007199254740993"],
            &["10000000000000000000000000"],
            &["10000000000000000000000001"],
            &["1e400"],
            &["1e99999999999999999999"],
        ];
        for (left_rank, left) in ascending.iter().enumerate() {
            for (right_rank, right) in ascending.iter().enumerate() {
                for (left, right) in left.iter().flat_map(|left| right.iter().map(move |right| (left, right)))
                {
                    let found = compare(&number(left), &number(right));
                    assert_eq!(found, left_rank.cmp(&right_rank), "{left} and {right}");
                }
            }
        }
    }
}
