//! Stand-ins for the engine, to test a transform with plain `cargo test`. Not there in the built module.

use std::cell::{Cell, RefCell};

use serde_json::Value;

use crate::Transform;
use crate::log::Level;

thread_local! {
    static NOW: Cell<u64> = const { Cell::new(0) };
    static LINES: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
}

/// Makes a transform from settings, the way the engine does: the error is what `hookmill check` would show.
#[expect(clippy::needless_pass_by_value, reason = "json!(…) is a value, and reads best without an ampersand")]
pub fn configure<T: Transform>(settings: Value) -> Result<T, String> {
    crate::settings::configure(&settings.to_string())
}

/// Sets what [`clock::now`](crate::clock::now) tells in this thread, in milliseconds since 1970.
pub fn set_now(milliseconds: u64) {
    NOW.set(milliseconds);
}

/// The lines logged in this thread since the last call.
pub fn take_log() -> Vec<(Level, String)> {
    LINES.take()
}

pub(crate) fn now() -> u64 {
    NOW.get()
}

pub(crate) fn record(level: Level, message: &str) {
    LINES.with_borrow_mut(|lines| lines.push((level, message.to_owned())));
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;
    use crate::{Event, Failure, NoSettings, Verdict, clock, log};

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        rules: Vec<Rule>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Rule {
        limit: u8,
    }

    #[derive(Debug)]
    struct Strict(Settings);

    impl Transform for Strict {
        type Settings = Settings;
        fn configure(settings: Settings) -> Result<Self, String> {
            Ok(Self(settings))
        }
        fn apply(&mut self, _: Event) -> Result<Verdict, Failure> {
            log::warn(format!("{} rules at {}", self.0.rules.len(), clock::now()));
            if self.0.rules.iter().any(|rule| rule.limit == 0) {
                Err(Failure::retry("0"))
            } else {
                Ok(Verdict::Keep)
            }
        }
    }

    #[derive(Debug)]
    struct Nothing;

    impl Transform for Nothing {
        type Settings = NoSettings;
        fn configure(_: NoSettings) -> Result<Self, String> {
            Ok(Self)
        }
        fn apply(&mut self, _: Event) -> Result<Verdict, Failure> {
            Ok(Verdict::Keep)
        }
    }

    #[test]
    fn wrong_settings_are_named_by_field_with_what_was_found_and_what_is_allowed() {
        for (settings, message) in [
            (json!({}), "missing field `rules`"),
            (
                json!({"rules": [{"limit": "ten"}]}),
                r#"rules[0].limit: invalid type: string "ten", expected u8"#,
            ),
            (json!({"rules": [{"limits": 1}]}), "rules[0].limits: unknown field `limits`, expected `limit`"),
            (json!({"rules": [{"limit": 300}]}), "rules[0].limit: invalid value: integer `300`, expected u8"),
        ] {
            assert_eq!(configure::<Strict>(settings).unwrap_err(), message);
        }
    }

    #[test]
    fn no_settings_are_empty_settings() {
        assert!(configure::<Nothing>(Value::Null).is_ok());
        assert!(configure::<Nothing>(json!({})).is_ok());
        let error = configure::<Nothing>(json!({"x": 1})).unwrap_err();
        assert_eq!(error, "x: unknown field `x`, there are no fields");
    }

    #[test]
    fn a_test_sees_the_log_and_sets_the_clock() {
        set_now(5);
        let mut strict: Strict = configure(json!({"rules": [{"limit": 1}]})).unwrap();
        assert_eq!(strict.apply(Event::new("1", "/s", "t")), Ok(Verdict::Keep));
        assert_eq!(take_log(), [(Level::Warn, "1 rules at 5".to_owned())]);
        assert_eq!(take_log(), []);
    }
}
