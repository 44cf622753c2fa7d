//! A transform that misbehaves as its settings say. For the engine's tests; of no other use.

mod modes;

use hookmill_transform::{Event, Failure, Transform, Verdict, export_transform};
use serde::Deserialize;

pub use crate::modes::{Mode, Told};

/// What the test says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What goes wrong.
    mode: Mode,
    /// Only events that have this extension attribute; all others are kept.
    #[serde(default)]
    only: Option<String>,
    /// `split`: how many outputs. `log_flood`: how many lines. `many_headers`: how many headers.
    #[serde(default)]
    count: Option<usize>,
    /// `huge_output`, `huge_log`: how large, in bytes.
    #[serde(default)]
    bytes: Option<usize>,
    /// `bad_attribute`: the extension's name. `header_injection`: the header's name.
    #[serde(default)]
    name: Option<String>,
    /// `bad_attribute`, `header_injection`: the value.
    #[serde(default)]
    value: Option<String>,
}

/// The transform.
#[derive(Debug)]
pub struct Hostile {
    settings: Settings,
    calls: i32,
}

impl Transform for Hostile {
    type Settings = Settings;

    fn configure(settings: Settings) -> Result<Self, String> {
        match settings.mode {
            Mode::SpinInConfigure => modes::spin(),
            Mode::TrapInConfigure => modes::trap(),
            Mode::GrowInConfigure => modes::grow(),
            Mode::RefuseSettings => {
                Err("mode is \"refuse_settings\", so these settings are wrong".to_owned())
            }
            _ => Ok(Self { settings, calls: 0 }),
        }
    }

    fn apply(&mut self, event: Event) -> Result<Verdict, Failure> {
        self.calls += 1;
        match &self.settings.only {
            Some(name) if event.extension(name).is_none() => Ok(Verdict::Keep),
            _ => self.misbehave(event),
        }
    }
}

impl Hostile {
    fn misbehave(&self, event: Event) -> Result<Verdict, Failure> {
        let settings = &self.settings;
        let name = settings.name.as_deref();
        let value = settings.value.as_deref();
        match settings.mode {
            Mode::Spin => modes::spin(),
            Mode::Trap => modes::trap(),
            Mode::Grow => modes::grow(),
            Mode::Recurse => modes::recurse(),
            Mode::HugeOutput => Ok(modes::huge_output(event, settings.bytes.unwrap_or(100_000_000))),
            Mode::BadAttribute => {
                Ok(modes::with_extension(event, name.unwrap_or("Not-Allowed"), value.unwrap_or("x")))
            }
            Mode::DuplicateAttribute => Ok(modes::duplicate_attribute(event)),
            Mode::EmptyId => Ok(Event { id: String::new(), ..event }.into()),
            Mode::HeaderInjection => {
                let (name, value) = (name.unwrap_or("x-shop"), value.unwrap_or("eu\r\nx-evil: 1"));
                Ok(modes::with_header(event, name, value))
            }
            Mode::ManyHeaders => Ok(modes::many_headers(event, settings.count.unwrap_or(10_000))),
            Mode::AsTold => modes::as_told(event),
            Mode::LogFlood => Ok(modes::log_flood(settings.count.unwrap_or(100_000))),
            Mode::HugeLog => Ok(modes::huge_log(settings.bytes.unwrap_or(16_000_000))),
            Mode::Retry => Err(Failure::retry("as the settings say")),
            Mode::Reject => Err(Failure::rejected("as the settings say")),
            Mode::Drop => Ok(Verdict::Drop("as the settings say".to_owned())),
            Mode::Split => Ok(modes::split(&event, settings.count.unwrap_or(3))),
            Mode::SleeplessCounter => Ok(modes::counted(event, self.calls)),
            Mode::Clock => Ok(modes::clock(event)),
            Mode::Keep
            | Mode::SpinInConfigure
            | Mode::TrapInConfigure
            | Mode::GrowInConfigure
            | Mode::RefuseSettings => Ok(Verdict::Keep),
        }
    }
}

export_transform!(Hostile);

#[cfg(test)]
mod tests {
    use hookmill_transform::serde_json::{Value, json};
    use hookmill_transform::testing::{configure, take_log};

    use super::*;

    fn apply(settings: Value) -> Result<Verdict, Failure> {
        configure::<Hostile>(settings).expect("the settings are right").apply(Event::new("1", "/s", "t"))
    }

    #[test]
    fn only_marked_events_are_misbehaved_on() {
        let mut hostile: Hostile = configure(json!({"mode": "reject", "only": "boom"})).unwrap();
        let mut event = Event::new("1", "/s", "t");
        assert_eq!(hostile.apply(event.clone()), Ok(Verdict::Keep));
        event.set_extension("boom", true);
        assert_eq!(hostile.apply(event), Err(Failure::rejected("as the settings say")));
    }

    #[test]
    fn the_counter_counts_the_calls_of_this_instance() {
        let mut hostile: Hostile = configure(json!({"mode": "sleepless_counter"})).unwrap();
        for call in 1..=3 {
            let Ok(Verdict::Replace(output)) = hostile.apply(Event::new("1", "/s", "t")) else {
                panic!("a verdict")
            };
            assert_eq!(output.event.extension("calls"), Some(&call.into()));
        }
    }

    #[test]
    fn sizes_and_counts_are_those_of_the_settings() {
        let Ok(Verdict::Split(outputs)) = apply(json!({"mode": "split", "count": 4})) else {
            panic!("a split")
        };
        assert_eq!(outputs.len(), 4);
        let Ok(Verdict::Replace(output)) = apply(json!({"mode": "huge_output", "bytes": 10})) else {
            panic!("one")
        };
        assert_eq!(output.event.data.map(|data| data.len()), Some(10));
        take_log();
        apply(json!({"mode": "log_flood", "count": 5})).unwrap();
        assert_eq!(take_log().len(), 5);
    }

    #[test]
    fn an_event_can_say_what_is_done_with_it() {
        let mut hostile: Hostile = configure(json!({"mode": "as_told"})).unwrap();
        let mut event = Event::new("1", "/s", "t");
        event
            .set_json(&json!({"attributes": [["id", ""], ["A b", "c"]], "headers": [["host", "x"]]}))
            .unwrap();
        let Ok(Verdict::Replace(output)) = hostile.apply(event) else { panic!("one") };
        assert_eq!((output.event.id.as_str(), output.event.extension("A b")), ("", Some(&"c".into())));
        assert_eq!(output.headers, [("host".to_owned(), "x".to_owned())]);
    }

    #[test]
    fn an_unknown_mode_is_refused_with_the_known_ones() {
        let error = configure::<Hostile>(json!({"mode": "dance"})).unwrap_err();
        assert!(
            error.starts_with("mode: unknown variant `dance`, expected one of `keep`, `spin`, `trap`"),
            "{error}"
        );
    }
}
