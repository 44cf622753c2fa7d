//! The file of a pipeline's tests, `orders.test.toml` beside `orders.toml`: its settings, and what it becomes.

mod kinds;
mod read;

use std::path::PathBuf;

use bytes::Bytes;
use serde_json::Value as Json;

use self::kinds::{
    Answers, Attributes, EventText, HeaderChecks, Members, Moment, Reason as ReasonKind, WhyOrAny, Yes,
};
use super::files::AnyJson;
use super::kinds::{Choice, FilePath, Text};
use super::report::Problem;
use super::setting::Absent::{Default, Missing, Nothing};
use super::setting::{Named, Section, Setting, Sub};
use super::{each_once, folder};
use crate::model::{Reason, Timestamp};

pub use self::read::check_names;
pub(super) use self::read::read;

/// The end of the name of a test file; before it stands the name of the pipeline's file without `.toml`.
pub(super) const ENDING: &str = ".test.toml";

/// One test file.
#[derive(Debug)]
pub struct Suite {
    /// The file, as it was named to us.
    pub file: PathBuf,
    /// The pipeline's file beside it.
    pub pipeline: PathBuf,
    /// The tests, in the order of the file.
    pub tests: Vec<Test>,
}

/// `[[test]]`.
#[derive(Debug)]
pub struct Test {
    /// What it shows.
    pub name: String,
    /// Where it begins.
    pub line: usize,
    /// The message that is published: the event's JSON text.
    pub event: Bytes,
    /// How it is encoded.
    pub mode: Mode,
    /// The time, if it is set.
    pub now: Option<Timestamp>,
    /// What endpoints answer in place of 200.
    pub answers: Vec<(At<String>, u16)>,
    /// Why the pipeline as a whole refuses the event, if that is expected.
    pub rejected: Option<At<Reason>>,
    /// What is expected of subscriptions; more than one end each after a split.
    pub expect: Vec<(At<String>, Vec<End>)>,
}

/// Something with the line that it stands on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct At<T> {
    /// It.
    pub value: T,
    /// Counted from 1.
    pub line: usize,
}

/// How an event is published.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// The whole event as JSON.
    Structured,
    /// Attributes as headers.
    Binary,
}

/// What is expected of one subscription, or of one output of its split.
#[derive(Clone, PartialEq, Debug)]
pub enum End {
    /// It is delivered, with all of this.
    Delivered(Delivered),
    /// It is filtered, for this reason if one is given.
    Filtered(Option<String>),
    /// It becomes a dead letter.
    DeadLettered {
        /// With this reason.
        reason: Reason,
        /// With an error that has this in it.
        error: Option<String>,
    },
    /// The subscription doesn't want events of this type.
    Unmatched,
}

/// What is expected of a delivery; what is left out may be anything.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Delivered {
    /// The whole body.
    pub body: Option<Json>,
    /// The event's data.
    pub data: Option<Json>,
    /// Members of the event's data, among others.
    pub includes: Option<Json>,
    /// Attributes of the event; `None`: it isn't there.
    pub attributes: Vec<(String, Option<String>)>,
    /// Headers, by their names in lower case.
    pub headers: Vec<(String, HeaderCheck)>,
    /// Where a webhook goes.
    pub url: Option<String>,
    /// Where a publish goes.
    pub subject: Option<String>,
}

/// What is expected of a header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HeaderCheck {
    /// It has this value.
    Is(String),
    /// It is there, whatever it says.
    There,
    /// It isn't there.
    Absent,
}

pub(super) static SUITE: Section = Section {
    header: "",
    label: "",
    about: "A list of tests. Each publishes one event to the pipeline and says what becomes of it.",
    keys: &[&TESTS],
};
static TESTS: Sub = Sub::many("test", &TEST);

static TEST: Section = Section {
    header: "[[test]]",
    label: "test",
    about: "One event and what becomes of it. Give exactly one of `event` and `event_file`.",
    keys: &[&NAME, &EVENT, &EVENT_FILE, &MODE, &NOW, &ANSWERS, &EXPECT],
};

static NAME: Setting<Text> =
    Setting::new("name", Text, Missing, "What the test shows, as a sentence; unique within the file.");
static EVENT: Setting<EventText> = Setting::new(
    "event",
    EventText,
    Nothing("`event_file`"),
    "The message as it is published: a CloudEvent, or something that is none and expected to be rejected.",
);
static EVENT_FILE: Setting<FilePath> =
    Setting::new("event_file", FilePath, Nothing("`event`"), "A file with the event as JSON.");
static MODE: Setting<Choice<Mode>> = Setting::new(
    "mode",
    Choice(&[("structured", Mode::Structured), ("binary", Mode::Binary)]),
    Default("\"structured\""),
    "How the event is published: as a whole as JSON, or with its attributes as headers.",
);
static NOW: Setting<Moment> = Setting::new(
    "now",
    Moment,
    Nothing("when the test begins"),
    "The time, for signatures and for transforms. It stands still but for retries, which move it on by their waits.",
);
static ANSWERS: Setting<Answers> = Setting::new(
    "answers",
    Answers,
    Nothing("200 from all"),
    "HTTP statuses that endpoints answer, by subscription. With one that isn't 2xx all attempts are made, without their waits.",
);
static EXPECT: Named = Named::new("expect", &EXPECTED);

static EXPECTED: Section = Section {
    header: "[test.expect.<subscription>]",
    label: "expect",
    about: "What becomes of the event in one subscription: exactly one of `delivered`, `filtered`, `dead_lettered` and `unmatched`. \
            After a split: a list of them, `[[test.expect.<subscription>]]`, in the order of its outputs. Subscriptions that aren't \
            named may do as they like. `rejected = \"<reason>\"` in `[test.expect]` stands for the pipeline as a whole.",
    keys: &[&DELIVERED_TABLE, &FILTERED, &DEAD_LETTERED, &ERROR, &UNMATCHED],
};
static DELIVERED_TABLE: Sub = Sub::one("delivered", &DELIVERED);
static FILTERED: Setting<WhyOrAny> = Setting::new(
    "filtered",
    WhyOrAny,
    Nothing("not expected"),
    "It ends here on purpose: `\"match\"` (the subscription's `match` said no), `\"empty split\"`, or the text of the module that dropped it; \
     `true`: for whatever reason.",
);
static DEAD_LETTERED: Setting<ReasonKind> = Setting::new(
    "dead_lettered",
    ReasonKind,
    Nothing("not expected"),
    "It becomes a dead letter with this reason.",
);
static ERROR: Setting<Text> =
    Setting::new("error", Text, Nothing("any"), "With `dead_lettered`: what its error has in it.");
static UNMATCHED: Setting<Yes> = Setting::new(
    "unmatched",
    Yes,
    Nothing("not expected"),
    "The subscription doesn't want events of this type.",
);

static DELIVERED: Section = Section {
    header: "[test.expect.<subscription>.delivered]",
    label: "delivered",
    about: "It is sent, and all of this is so; empty: whatever is sent. JSON is compared as JSON: order of members, blanks and \
            `1` against `1.0` make no difference.",
    keys: &[&BODY, &DATA, &INCLUDES, &ATTRIBUTES, &HEADERS, &URL, &SUBJECT],
};
static BODY: Setting<AnyJson> = Setting::new(
    "body",
    AnyJson,
    Nothing("any"),
    "The whole body. A string is compared as JSON if both are JSON, else as text.",
);
static DATA: Setting<AnyJson> = Setting::new(
    "data",
    AnyJson,
    Nothing("any"),
    "The event's data, whatever the format of the delivery. A string as for `body`.",
);
static INCLUDES: Setting<Members> = Setting::new(
    "includes",
    Members,
    Nothing("any"),
    "Members that the event's data has, among others; tables below likewise, lists in full.",
);
static ATTRIBUTES: Setting<Attributes> = Setting::new(
    "attributes",
    Attributes,
    Nothing("any"),
    "Attributes that the event has, among others; `false`: it hasn't. Not with `format = \"data\"`.",
);
static HEADERS: Setting<HeaderChecks> = Setting::new(
    "headers",
    HeaderChecks,
    Nothing("any"),
    "Headers that it has, among others: a value, `true` for any, `false` for none. Case of names doesn't count.",
);
static URL: Setting<Text> = Setting::new("url", Text, Nothing("any"), "Where a webhook goes.");
static SUBJECT: Setting<Text> = Setting::new("subject", Text, Nothing("any"), "Where a publish goes.");

/// The test files that the paths mean, each once.
pub(super) fn files(paths: &[PathBuf], problems: &mut Vec<Problem>) -> Vec<PathBuf> {
    let none = (
        "no test file is in this folder",
        "the tests of orders.toml stand in orders.test.toml beside it; docs/testing-pipelines.md shows one",
    );
    let is_suite = |name: &str| name.ends_with(ENDING);
    let mut found = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(folder(path, is_suite, none, problems));
        } else if let Some(stem) = name.strip_suffix(".toml").filter(|_| !is_suite(&name)) {
            found.push(path.with_file_name(format!("{stem}{ENDING}")));
        } else {
            found.push(path.clone());
        }
    }
    each_once(found)
}
