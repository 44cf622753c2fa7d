//! What an HTTP status means for the task. Pure.

use std::time::Duration;

use time::{Date, Month, PrimitiveDateTime, Time};

use crate::model::{Again, Code, Fault, Reason, Stage, Timestamp, Whose};

/// What a subscription has decided about statuses that are no success. No status is in both lists.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// These end the task.
    pub give_up_on: &'a [u16],
    /// If given, every status that it doesn't name ends the task.
    pub retry_on: Option<&'a [u16]>,
    /// Longest time that a `Retry-After` is obeyed for.
    pub retry_after_max: Duration,
}

/// Success for 2xx, else the fault: `give_up_on`, what `retry_on` leaves out, and a 410 that it doesn't name end the task;
/// anything else may be tried again, at the time that `Retry-After` asks for but after `retry_after_max` at the latest.
pub fn classify(
    status: u16,
    retry_after: Option<&str>,
    now: Timestamp,
    rules: Rules<'_>,
) -> Result<(), Fault> {
    let Rules { give_up_on, retry_on, retry_after_max } = rules;
    let named = retry_on.map(|statuses| statuses.contains(&status));
    let text = |more: &str| format!("the endpoint answered {status}{more}");
    let never =
        |reason, more| Fault::never(Stage::Deliver, Code::Status, Whose::Endpoint, reason, text(more));
    let mut fault = match status {
        200..=299 => return Ok(()),
        _ if give_up_on.contains(&status) => never(Reason::GivenUp, ", which `give_up_on` names"),
        410 if named != Some(true) => never(Reason::Gone, ": it is gone for good"),
        _ if named == Some(false) => {
            let detail = text(", which `retry_on` doesn't name");
            Fault::never(Stage::Deliver, Code::UnlistedStatus, Whose::Endpoint, Reason::GivenUp, detail)
        }
        300..=399 => later(text(": redirects are not followed")),
        _ => later(text("")),
    };
    let asked =
        retry_after.and_then(|value| parse_retry_after(value, now)).map(|wait| wait.min(retry_after_max));
    if let Again::Later { after, .. } = &mut fault.again {
        *after = asked;
    }
    // CloudEvents, "HTTP 1.1 Web Hooks", 2.2: the sender must refrain from sending until then, whatever becomes of this event.
    if matches!(status, 429 | 503) {
        fault.hold = asked.filter(|wait| !wait.is_zero());
    }
    fault.status = Some(status);
    Err(fault)
}

fn later(detail: String) -> Fault {
    Fault::later(Stage::Deliver, Code::Status, Whose::Endpoint, Reason::Exhausted, detail)
}

/// `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date in any of the three forms of section 5.6.7. A date that is past
/// means no wait. What is neither is no wish at all.
fn parse_retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim_matches([' ', '\t']);
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are still a wish for a very long wait.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    http_date(value, now).map(|date| date.since(now))
}

fn http_date(value: &str, now: Timestamp) -> Option<Timestamp> {
    let words: Vec<&str> = value.split(' ').filter(|word| !word.is_empty()).collect();
    let (day, month, year, clock) = match *words.as_slice() {
        // IMF-fixdate: Sun, 06 Nov 1994 08:49:37 GMT
        [weekday, day, month, year, clock, "GMT"] if weekday.ends_with(',') => {
            (day, month, number(year, 4)?, clock)
        }
        // RFC 850: Sunday, 06-Nov-94 08:49:37 GMT
        [weekday, date, clock, "GMT"] if weekday.ends_with(',') => {
            let (day, rest) = date.split_once('-')?;
            let (month, year) = rest.split_once('-')?;
            (day, month, century(number(year, 2)?, now)?, clock)
        }
        // asctime: Sun Nov  6 08:49:37 1994
        [_, month, day, clock, year] => (day, month, number(year, 4)?, clock),
        _ => return None,
    };
    let mut parts = clock.split(':');
    let mut part = || parts.next().and_then(|part| number(part, 2));
    let (hour, minute, second) = (part()?, part()?, part()?);
    if parts.next().is_some() || !matches!(day.len(), 1 | 2) {
        return None;
    }
    let small = |value: i32| u8::try_from(value).ok();
    let date = Date::from_calendar_date(year, month_of(month)?, small(number(day, day.len())?)?).ok()?;
    // A leap second is the last second before it.
    let time = Time::from_hms(small(hour)?, small(minute)?, small(second.min(59))?).ok()?;
    let unix = PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp();
    Some(Timestamp::from_unix_seconds(u64::try_from(unix).unwrap_or(0)))
}

fn number(text: &str, digits: usize) -> Option<i32> {
    let plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

/// Two digits mean the latest such year that is at most 50 years ahead (RFC 9110, section 5.6.7).
fn century(two_digits: i32, now: Timestamp) -> Option<i32> {
    let seconds = i64::try_from(now.unix_seconds()).ok()?;
    let this_year = time::OffsetDateTime::from_unix_timestamp(seconds).ok()?.year();
    let latest = this_year + 50;
    Some(latest - (latest - two_digits).rem_euclid(100))
}

fn month_of(name: &str) -> Option<Month> {
    const NAMES: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let index = NAMES.iter().position(|month| *month == name)?;
    Month::try_from(u8::try_from(index).ok()? + 1).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    /// 1994-11-06T08:49:00Z, 37 seconds before the date of the RFC's examples.
    const NOW: Timestamp = Timestamp::from_unix_seconds(784_111_740);

    const RULES: Rules<'static> = Rules { give_up_on: &[400, 422], retry_on: None, retry_after_max: HOUR };

    fn fault(status: u16, retry_after: Option<&str>) -> Fault {
        classify(status, retry_after, NOW, RULES).expect_err("a fault")
    }

    fn wait(retry_after: &str) -> Option<u64> {
        match fault(429, Some(retry_after)).again {
            Again::Later { after, .. } => after.map(|after| after.as_secs()),
            again => panic!("{again:?}"),
        }
    }

    #[test]
    fn only_429_and_503_ask_for_no_requests_at_all() {
        let hold = |status, retry_after| fault(status, retry_after).hold.map(|hold| hold.as_secs());
        assert_eq!(
            (hold(429, Some("30")), hold(503, Some("Sun, 06 Nov 1994 08:49:37 GMT"))),
            (Some(30), Some(37))
        );
        assert_eq!(hold(503, Some("100000")), Some(3_600), "but not for longer than retry_after_max");
        assert_eq!((hold(503, None), hold(503, Some("0")), hold(503, Some("soon"))), (None, None, None));
        assert_eq!((hold(500, Some("30")), hold(408, Some("30"))), (None, None));
        let named = Rules { give_up_on: &[503], ..RULES };
        let given_up = classify(503, Some("30"), NOW, named).expect_err("a fault");
        assert_eq!(given_up.hold, Some(Duration::from_secs(30)), "whatever becomes of the event");
    }

    #[test]
    fn every_2xx_is_success() {
        for status in 200..300 {
            assert_eq!(
                classify(status, Some("5"), NOW, Rules { retry_on: Some(&[]), ..RULES }),
                Ok(()),
                "{status}"
            );
        }
    }

    #[test]
    fn everything_else_is_tried_again_except_what_is_hopeless() {
        for status in (100..600).filter(|status| !(200..300).contains(status)) {
            let fault = fault(status, None);
            let expected = match status {
                400 | 422 => Again::Never(Reason::GivenUp),
                410 => Again::Never(Reason::Gone),
                _ => Again::Later { after: None, exhausted: Reason::Exhausted },
            };
            assert_eq!(fault.again, expected, "{status}");
            assert_eq!(
                (fault.status, fault.code, fault.whose),
                (Some(status), Code::Status, Whose::Endpoint)
            );
        }
        let listed = classify(410, None, NOW, Rules { give_up_on: &[410], ..RULES }).unwrap_err();
        assert_eq!(listed.again, Again::Never(Reason::GivenUp), "a 410 that is listed disables no lane");
        assert_eq!(fault(503, None).detail, "the endpoint answered 503");
        assert_eq!(fault(302, None).detail, "the endpoint answered 302: redirects are not followed");
    }

    #[test]
    fn where_statuses_to_be_tried_again_are_named_the_others_end_at_once() {
        let later = Again::Later { after: Some(Duration::from_secs(7)), exhausted: Reason::Exhausted };
        let given_up = Again::Never(Reason::GivenUp);
        let (some, none): (&[u16], &[u16]) = (&[302, 429, 503], &[]);
        for (retry_on, status, again, code) in [
            (some, 503, later, Code::Status),
            (some, 429, later, Code::Status),
            (some, 302, later, Code::Status),
            (some, 500, given_up, Code::UnlistedStatus),
            (some, 404, given_up, Code::UnlistedStatus),
            (some, 301, given_up, Code::UnlistedStatus),
            (some, 410, Again::Never(Reason::Gone), Code::Status),
            (some, 422, given_up, Code::Status),
            (&[410], 410, later, Code::Status),
            (none, 503, given_up, Code::UnlistedStatus),
        ] {
            let rules = Rules { retry_on: Some(retry_on), ..RULES };
            let fault = classify(status, Some("7"), NOW, rules).unwrap_err();
            let found = (fault.again, fault.code, fault.status);
            assert_eq!(found, (again, code, Some(status)), "{status} of {retry_on:?}");
        }
        let unlisted = classify(500, None, NOW, Rules { retry_on: Some(&[503]), ..RULES }).unwrap_err();
        assert_eq!(unlisted.detail, "the endpoint answered 500, which `retry_on` doesn't name");
    }

    #[test]
    fn retry_after_is_read_in_all_its_forms_and_cut() {
        for (value, seconds) in [
            ("0", Some(0)),
            ("120", Some(120)),
            (" 120 ", Some(120)),
            ("3600", Some(3600)),
            ("3601", Some(3600)),
            ("99999999999999999999999999", Some(3600)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(37)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(37)),
            ("Sun Nov  6 08:49:37 1994", Some(37)),
            ("Sun, 06 Nov 1994 08:48:59 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:49:60 GMT", Some(59)),
            ("Thu, 31 Dec 2099 23:59:59 GMT", Some(3600)),
            ("Monday, 06-Nov-44 08:49:37 GMT", Some(3600)),
            ("Monday, 06-Nov-45 08:49:37 GMT", Some(0)),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("soon", None),
            ("Sun, 06 Nov 1994 08:49:37 CET", None),
            ("Sun, 31 Feb 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 25:49:37 GMT", None),
            ("Sun, 06 Nov 1994 08:49 GMT", None),
            ("Sun, 06 Nov 1994 08:49:37:00 GMT", None),
            ("Sun, 006 Nov 1994 08:49:37 GMT", None),
            ("Sun, 06 Nop 1994 08:49:37 GMT", None),
        ] {
            assert_eq!(wait(value), seconds, "{value:?}");
        }
    }
}
