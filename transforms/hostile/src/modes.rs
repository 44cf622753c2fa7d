//! The ways to misbehave.

use std::hint::black_box;

use hookmill_transform::{Event, Failure, Output, Verdict, clock, log};
use serde::Deserialize;

/// What goes wrong. In settings: in snake case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Nothing: every event is kept.
    Keep,
    /// Never returns.
    Spin,
    /// Panics.
    Trap,
    /// Takes memory until it is refused.
    Grow,
    /// Calls itself until the stack is used up.
    Recurse,
    /// Returns `bytes` of data.
    HugeOutput,
    /// Returns an extension attribute with a bad name (or the `name` and `value` of the settings).
    BadAttribute,
    /// Returns the same extension attribute twice.
    DuplicateAttribute,
    /// Returns an event with an empty id.
    EmptyId,
    /// Returns a header with a line break (or the `name` and `value` of the settings).
    HeaderInjection,
    /// Returns `count` headers.
    ManyHeaders,
    /// Returns the event with the attributes and the headers that its data names: see [`Told`].
    AsTold,
    /// Logs `count` lines, then keeps the event.
    LogFlood,
    /// Logs one line of `bytes`, then keeps the event.
    HugeLog,
    /// Fails for now.
    Retry,
    /// Fails for good.
    Reject,
    /// Drops the event.
    Drop,
    /// Returns `count` copies of the event, with their number as extension `part`, from 0.
    Split,
    /// Sets the extension `calls` to how often this instance was called.
    SleeplessCounter,
    /// Sets the extension `now` to the clock's time as text.
    Clock,
    /// Never returns from `configure`.
    SpinInConfigure,
    /// Panics in `configure`.
    TrapInConfigure,
    /// Takes memory in `configure` until it is refused.
    GrowInConfigure,
    /// Calls its settings wrong.
    RefuseSettings,
}

/// What an event's data may ask for, for [`Mode::AsTold`].
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Told {
    /// Names and values, of attributes of the specification and of extensions.
    attributes: Vec<(String, String)>,
    /// Names and values.
    headers: Vec<(String, String)>,
}

pub(crate) fn spin() -> ! {
    loop {
        black_box(());
    }
}

pub(crate) fn trap() -> ! {
    panic!("as the settings say")
}

pub(crate) fn grow() -> ! {
    let mut hoard = Vec::new();
    loop {
        hoard.push(vec![1_u8; 1 << 20]);
        black_box(&hoard);
    }
}

#[expect(unconditional_recursion, reason = "that is the misbehaviour")]
pub(crate) fn recurse() -> ! {
    fn deeper(depth: u64) -> u64 {
        let frame = black_box([depth; 32]);
        deeper(frame[7] + 1) + black_box(frame)[3]
    }
    panic!("came back from {}", deeper(0))
}

pub(crate) fn huge_output(mut event: Event, bytes: usize) -> Verdict {
    event.datacontenttype = Some("application/octet-stream".to_owned());
    event.data = Some(vec![b'x'; bytes]);
    event.into()
}

pub(crate) fn with_extension(mut event: Event, name: &str, value: &str) -> Verdict {
    event.extensions.push((name.to_owned(), value.into()));
    event.into()
}

pub(crate) fn duplicate_attribute(mut event: Event) -> Verdict {
    event.extensions.push(("twice".to_owned(), 1.into()));
    event.extensions.push(("twice".to_owned(), 2.into()));
    event.into()
}

pub(crate) fn with_header(event: Event, name: &str, value: &str) -> Verdict {
    Output::from(event).header(name, value).into()
}

pub(crate) fn many_headers(event: Event, count: usize) -> Verdict {
    let headers = (0..count).map(|number| (format!("x-{number}"), "x".to_owned())).collect();
    Output { event, headers }.into()
}

pub(crate) fn as_told(mut event: Event) -> Result<Verdict, Failure> {
    let Told { attributes, headers } = event.json()?;
    for (name, value) in attributes {
        match name.as_str() {
            "id" => event.id = value,
            "source" => event.source = value,
            "type" => event.ty = value,
            "subject" => event.subject = Some(value),
            "time" => event.time = Some(value),
            "datacontenttype" => event.datacontenttype = Some(value),
            "dataschema" => event.dataschema = Some(value),
            _ => event.extensions.push((name, value.into())),
        }
    }
    Ok(Output { event, headers }.into())
}

pub(crate) fn log_flood(lines: usize) -> Verdict {
    for line in 0..lines {
        log::warn(format!("line {line}"));
    }
    Verdict::Keep
}

pub(crate) fn huge_log(bytes: usize) -> Verdict {
    log::warn("x".repeat(bytes));
    Verdict::Keep
}

pub(crate) fn split(event: &Event, count: usize) -> Verdict {
    let part = |number: usize| {
        let mut part = event.clone();
        part.set_extension("part", i32::try_from(number).unwrap_or(i32::MAX));
        part.into()
    };
    Verdict::Split((0..count).map(part).collect())
}

pub(crate) fn counted(mut event: Event, calls: i32) -> Verdict {
    event.set_extension("calls", calls);
    event.into()
}

pub(crate) fn clock(mut event: Event) -> Verdict {
    event.set_extension("now", clock::now().to_string());
    event.into()
}
