//! The settings of a pipeline file: each is defined here, once.

use std::time::Duration;

use super::checked::OnError;
use super::egress::Entry;
use super::files::{Match, ModuleReference, SchemaFile, SettingsTable};
use super::kinds::{Choice, List, NameKind, Number, Size, Speed, Time, Types, Whole};
use super::setting::Absent::{Default, Missing, Nothing};
use super::setting::{Later, Section, Setting, Sub};
use super::values::{Headers, JitterKind, Secret, StartKind, Stream, Subject, Template, Url};
use crate::deliver::Format;
use crate::model::event::Reading;
use crate::source::DeliveryIdFrom;
use crate::transform::{self, Isolation};
use crate::validate::Unknown;

const MILLISECOND: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);
const WEEK: Duration = Duration::from_hours(7 * 24);
const MONTH: Duration = Duration::from_hours(28 * 24);

/// Most waits in a retry schedule.
const RETRIES_MAX: usize = 100;

pub(super) static PIPELINE: Section = Section {
    header: "",
    label: "",
    about: "At the top of the file.",
    keys: &[&NAME, &SOURCE_TABLE, &VALIDATE_TABLE, &SUBSCRIPTIONS],
};

pub(super) static NAME: Setting<NameKind> = Setting::new(
    "name",
    NameKind,
    Nothing("the name of the file without `.toml`"),
    "The pipeline's name, unique among all that are loaded together. Consumers, lanes and dead letters carry it: \
     a pipeline with another name is another pipeline.",
);
pub(super) static SOURCE_TABLE: Sub = Sub::one("source", &SOURCE);
pub(super) static VALIDATE_TABLE: Sub = Sub::one("validate", &VALIDATE);
pub(super) static SUBSCRIPTIONS: Sub = Sub::many("subscription", &SUBSCRIPTION);

pub(super) static SOURCE: Section = Section {
    header: "[source]",
    label: "source",
    about: "Where events come from: a stream of yours, which the engine only reads. It adds one durable consumer, \
            `hookmill-<pipeline>`.",
    keys: &[&STREAM, &SUBJECTS, &START, &MAX_IN_FLIGHT, &READING, &WEBHOOK_ID],
};

pub(super) static STREAM: Setting<Stream> =
    Setting::new("stream", Stream, Default("\"HOOKMILL_EVENTS\""), "The JetStream stream.");
pub(super) static SUBJECTS: Setting<List<Subject>> = Setting::new(
    "subjects",
    List { item: Subject, max: 100 },
    Default("[]"),
    "Subjects that are taken. Empty: everything in the stream.",
);
pub(super) static START: Setting<StartKind> = Setting::new(
    "start",
    StartKind,
    Default("\"new\""),
    "Where to start the first time. It counts only where no earlier position is kept.",
);
pub(super) static MAX_IN_FLIGHT: Setting<Whole> = Setting::new(
    "max_in_flight",
    Whole { min: 1, max: 65_536 },
    Default("2048"),
    "Most events of this pipeline that one engine works on at once.",
);

pub(super) static READING: Setting<Choice<Reading>> = Setting::new(
    "reading",
    Choice(&[("tolerant", Reading::Tolerant), ("strict", Reading::Strict)]),
    Default("\"tolerant\""),
    "Which messages are events. `tolerant` mends small breaches that real publishers commit, counts each, and never touches \
     a valid event (your-publisher.md lists them); `strict` refuses them.",
);
pub(super) static WEBHOOK_ID: Setting<Choice<DeliveryIdFrom>> = Setting::new(
    "webhook_id",
    Choice(&[("event", DeliveryIdFrom::Event), ("message", DeliveryIdFrom::Message)]),
    Default("\"event\""),
    "What a `webhook-id` is made of: the event's `source` and `id`, or its message in the stream. `message` is for \
     publishers that give several events one id, as Debezium does for MySQL.",
);

pub(super) static VALIDATE: Section = Section {
    header: "[validate]",
    label: "validate",
    about: "Checks the data of events against JSON Schemas. An event that its schema refuses is dead-lettered once, \
            for the pipeline as a whole.",
    keys: &[&UNKNOWN, &SCHEMAS],
};

pub(super) static UNKNOWN: Setting<Choice<Unknown>> = Setting::new(
    "unknown",
    Choice(&[("accept", Unknown::Accept), ("reject", Unknown::Reject)]),
    Default("\"accept\""),
    "What becomes of an event that no schema covers.",
);
pub(super) static SCHEMAS: Sub = Sub::many("schema", &SCHEMA);

pub(super) static SCHEMA: Section = Section {
    header: "[[validate.schema]]",
    label: "schema",
    about: "One schema. The first whose `types` match covers an event; where none does, the one whose `$id` is the \
            event's `dataschema`.",
    keys: &[&SCHEMA_TYPES, &SCHEMA_FILE],
};

pub(super) static SCHEMA_TYPES: Setting<Types> =
    Setting::new("types", Types, Default("[]"), "Which event types it covers. Empty: all.");
pub(super) static SCHEMA_FILE: Setting<SchemaFile> = Setting::new(
    "file",
    SchemaFile,
    Missing,
    "The schema: draft 2020-12 (the default), 2019-09 or 7, by its `$schema`. `$ref` stays in the schema's folder; \
     nothing is fetched.",
);

pub(super) static SUBSCRIPTION: Section = Section {
    header: "[[subscription]]",
    label: "subscription",
    about: "Who wants events, which, and where they go. Needs exactly one of `deliver` and `publish`.",
    keys: &[
        &SUBSCRIPTION_NAME,
        &TYPES,
        &FILTER,
        &MATCH,
        &STEPS,
        &DELIVER_TABLE,
        &PUBLISH_TABLE,
        &RETRY_TABLE,
        &CIRCUIT_TABLE,
    ],
};

pub(super) static SUBSCRIPTION_NAME: Setting<NameKind> =
    Setting::new("name", NameKind, Missing, "The subscription's name, unique within the pipeline.");
pub(super) static TYPES: Setting<Types> =
    Setting::new("types", Types, Default("[]"), "Which event types it wants. Empty, or `[\"*\"]`: all.");
pub(super) static FILTER: Later =
    Later::new("filter", "CloudEvents SQL over the attributes; types and match work");
pub(super) static MATCH: Setting<Match> = Setting::new(
    "match",
    Match,
    Nothing("every event of its types"),
    "What the data has to fulfil. An event without JSON data doesn't match. Example: \
     `{ required = [\"total\"], properties = { total = { minimum = 10 } } }`",
);
pub(super) static STEPS: Sub = Sub::many("step", &STEP);
pub(super) static DELIVER_TABLE: Sub = Sub::one("deliver", &DELIVER);
pub(super) static PUBLISH_TABLE: Sub = Sub::one("publish", &PUBLISH);
pub(super) static RETRY_TABLE: Sub = Sub::one("retry", &RETRY);
pub(super) static CIRCUIT_TABLE: Sub = Sub::one("circuit", &CIRCUIT);

pub(super) static STEP: Section = Section {
    header: "[[subscription.step]]",
    label: "step",
    about: "A WebAssembly module that changes, splits or drops events. Steps run in their order.",
    keys: &[&TRANSFORM, &LLM, &SETTINGS, &STEP_TIMEOUT, &MEMORY, &OUTPUT, &ISOLATION, &ON_ERROR],
};

pub(super) static TRANSFORM: Setting<ModuleReference> = Setting::new(
    "transform",
    ModuleReference,
    Missing,
    "The module. `name@1` is the newest 1.x.y and `name@1.4` the newest 1.4.x: they follow uploads and yanks while the \
     engine runs.",
);
pub(super) static LLM: Later = Later::new("llm", "steps that ask a language model come later");
pub(super) static SETTINGS: Setting<SettingsTable> = Setting::new(
    "settings",
    SettingsTable,
    Default("{}"),
    "Handed to the module as JSON. Checked with the schema in the module's metadata, if it has one, then by the module \
     itself; also in `hookmill check`.",
);
pub(super) static STEP_TIMEOUT: Setting<Time> = Setting::new(
    "timeout",
    Time { min: *transform::TIMEOUT.start(), max: *transform::TIMEOUT.end() },
    Default("\"1s\""),
    "Longest time of one call, by the clock on the wall. The module's metadata may say another default.",
);
pub(super) static MEMORY: Setting<Size> = Setting::new(
    "memory",
    Size { min: *transform::MEMORY_BYTES.start(), max: *transform::MEMORY_BYTES.end() },
    Default("\"128MiB\""),
    "Most linear memory of one instance. The module's metadata may say another default.",
);
pub(super) static OUTPUT: Setting<Size> = Setting::new(
    "output",
    Size { min: *transform::OUTPUT_BYTES.start(), max: *transform::OUTPUT_BYTES.end() },
    Default("\"4MiB\""),
    "Most that one call may return, all events and headers together. The module's metadata may say another default.",
);
pub(super) static ISOLATION: Setting<Choice<Isolation>> = Setting::new(
    "isolation",
    Choice(&[("instance", Isolation::Instance), ("event", Isolation::Event)]),
    Default("\"instance\""),
    "Whether an instance serves one event after the other, or every event gets a fresh one.",
);
pub(super) static ON_ERROR: Setting<Choice<OnError>> = Setting::new(
    "on_error",
    Choice(&[("dead-letter", OnError::DeadLetter), ("drop", OnError::Drop), ("skip", OnError::Skip)]),
    Default("\"dead-letter\""),
    "What becomes of an event when the step has failed for good: a dead letter, an end as filtered, or on as it was.",
);

pub(super) static DELIVER: Section = Section {
    header: "[subscription.deliver]",
    label: "deliver",
    about: "A webhook: `POST`, signed after Standard Webhooks. 2xx is success, everything else is retried.",
    keys: &[&URL, &FORMAT, &HEADERS, &SIGN, &TIMEOUT, &CONCURRENCY, &RATE, &BURST, &ALLOW, &DENY],
};

pub(super) static URL: Setting<Url> =
    Setting::new("url", Url, Missing, "The endpoint. Plain `http://` only reaches what `allow` names.");
pub(super) static FORMAT: Setting<Choice<Format>> = Setting::new(
    "format",
    Choice(&[("structured", Format::Structured), ("binary", Format::Binary), ("data", Format::Data)]),
    Default("\"structured\""),
    "The body: the whole event as JSON, the data with the attributes in `ce-*` headers, or the data alone.",
);
pub(super) static HEADERS: Setting<Headers> = Setting::new(
    "headers",
    Headers,
    Default("{}"),
    "Further headers. `webhook-*`, `ce-*`, `host`, `content-*` and those of the connection are the engine's.",
);
pub(super) static SIGN: Setting<List<Secret>> = Setting::new(
    "sign",
    List { item: Secret, max: 10 },
    Default("[]"),
    "Secrets (`whsec_…`) to sign with, one signature each, so that one can follow another without a gap.",
);
pub(super) static TIMEOUT: Setting<Time> = Setting::new(
    "timeout",
    Time { min: MILLISECOND, max: Duration::from_mins(10) },
    Default("\"15s\""),
    "Longest time of one attempt: resolving, connecting, TLS, headers and body together.",
);
pub(super) static CONCURRENCY: Setting<Whole> = Setting::new(
    "concurrency",
    Whole { min: 1, max: 10_000 },
    Default("64"),
    "Most attempts of one engine at once.",
);
pub(super) static RATE: Setting<Speed> = Setting::new(
    "rate",
    Speed,
    Nothing("no limit"),
    "Most attempts of one engine over time. What comes faster waits in the lane.",
);
pub(super) static BURST: Setting<Whole> = Setting::new(
    "burst",
    Whole { min: 1, max: 100_000 },
    Nothing("what `rate` allows in a second"),
    "Attempts that may come at once after a pause. Needs `rate`.",
);
pub(super) static ALLOW: Setting<List<Entry>> = Setting::new(
    "allow",
    List { item: Entry::Allow, max: 1000 },
    Default("[]"),
    "What this endpoint may be although it is refused otherwise: networks (loopback, private and the like), or hosts.",
);
pub(super) static DENY: Setting<List<Entry>> = Setting::new(
    "deny",
    List { item: Entry::Deny, max: 1000 },
    Default("[]"),
    "What this endpoint may not be, whatever allows it: networks, hosts or ports. For a `url` that stands elsewhere.",
);

pub(super) static PUBLISH: Section = Section {
    header: "[subscription.publish]",
    label: "publish",
    about: "A publish to a JetStream subject, done when the stream has acknowledged it.",
    keys: &[&SUBJECT, &PUBLISH_TIMEOUT, &CONCURRENCY],
};

pub(super) static SUBJECT: Setting<Template> = Setting::new(
    "subject",
    Template,
    Missing,
    "The subject. Values are percent-encoded outside `[A-Za-z0-9_.-]`; an attribute that is not there becomes `_`. \
     The pipeline's own source must not take it.",
);
pub(super) static PUBLISH_TIMEOUT: Setting<Time> = Setting::new(
    "timeout",
    Time { min: MILLISECOND, max: MINUTE },
    Default("\"5s\""),
    "Longest wait for the publish ack.",
);

pub(super) static CIRCUIT: Section = Section {
    header: "[subscription.circuit]",
    label: "circuit",
    about: "When to stop trying for every event. While the circuit is open, events wait in the lane and one of them at a \
            time is tried. One success closes it.",
    keys: &[&FAILURES, &FOR, &RATIO, &PROBE, &PROBE_MAX, &DISABLE_AFTER],
};

pub(super) static FAILURES: Setting<Whole> = Setting::new(
    "failures",
    Whole { min: 1, max: 100_000 },
    Default("20"),
    "Attempts that must fail in a row before it opens.",
);
pub(super) static FOR: Setting<Time> = Setting::new(
    "for",
    Time { min: MILLISECOND, max: DAY },
    Default("\"10s\""),
    "How long ago the first of them must have begun.",
);
pub(super) static RATIO: Setting<Number> = Setting::new(
    "ratio",
    Number { min: 0.01, max: 1.0 },
    Nothing("only failures in a row count"),
    "It also opens when this share of the attempts within `for` fails, `failures` of them at least.",
);
pub(super) static PROBE: Setting<Time> = Setting::new(
    "probe",
    Time { min: MILLISECOND, max: DAY },
    Default("\"1s\""),
    "Wait for the first probe; each further one waits twice as long.",
);
pub(super) static PROBE_MAX: Setting<Time> = Setting::new(
    "probe_max",
    Time { min: MILLISECOND, max: DAY },
    Default("\"30s\""),
    "Longest wait between probes.",
);
pub(super) static DISABLE_AFTER: Setting<Time> = Setting::new(
    "disable_after",
    Time { min: Duration::from_secs(1), max: MONTH },
    Default("\"5d\""),
    "A lane whose circuit has been open for so long without one success is disabled, until somebody resumes it.",
);

pub(super) static RETRY: Section = Section {
    header: "[subscription.retry]",
    label: "retry",
    about: "When a failed attempt is repeated. Either `schedule`, or `attempts`, `initial`, `multiplier` and `max`. \
            An event whose retries are used up is dead-lettered as `exhausted`.",
    keys: &[
        &SCHEDULE,
        &ATTEMPTS,
        &INITIAL,
        &MULTIPLIER,
        &MAX,
        &JITTER,
        &MAX_AGE,
        &RETRY_AFTER_MAX,
        &GIVE_UP_ON,
        &RETRY_ON,
    ],
};

const WAIT: Time = Time { min: MILLISECOND, max: WEEK };

pub(super) static SCHEDULE: Setting<List<Time>> = Setting::new(
    "schedule",
    List { item: WAIT, max: RETRIES_MAX },
    Default("[\"5s\", \"5m\", \"30m\", \"2h\", \"5h\", \"10h\", \"14h\", \"20h\", \"24h\"]"),
    "The wait before each further attempt. Empty: no retries.",
);
pub(super) static ATTEMPTS: Setting<Whole> = Setting::new(
    "attempts",
    Whole { min: 1, max: RETRIES_MAX as u64 + 1 },
    Default("8"),
    "Attempts in all, the first one included. With this, `initial`, `multiplier` or `max` there is no `schedule`.",
);
pub(super) static INITIAL: Setting<Time> =
    Setting::new("initial", WAIT, Default("\"1s\""), "The first wait.");
pub(super) static MULTIPLIER: Setting<Number> = Setting::new(
    "multiplier",
    Number { min: 1.0, max: 100.0 },
    Default("2.0"),
    "What each wait is multiplied by.",
);
pub(super) static MAX: Setting<Time> = Setting::new("max", WAIT, Default("\"1h\""), "The longest wait.");
pub(super) static JITTER: Setting<JitterKind> = Setting::new(
    "jitter",
    JitterKind,
    Default("0.2"),
    "How chance spreads each wait, so that retries don't come as one.",
);
pub(super) static MAX_AGE: Setting<Time> = Setting::new(
    "max_age",
    Time { min: MILLISECOND, max: MONTH },
    Nothing("the schedule alone bounds the retries"),
    "No further attempt is made where it would come later than this after the first one: the event is dead-lettered as \
     `exhausted`, though its schedule has attempts left. What lay in a paused or disabled lane is tried once more all the same.",
);
pub(super) static RETRY_AFTER_MAX: Setting<Time> = Setting::new(
    "retry_after_max",
    Time { min: Duration::ZERO, max: WEEK },
    Default("\"1h\""),
    "Longest time that an endpoint's `Retry-After` is obeyed for.",
);
/// What isn't success.
const STATUSES: List<Whole> = List { item: Whole { min: 300, max: 599 }, max: 300 };

pub(super) static GIVE_UP_ON: Setting<List<Whole>> = Setting::new(
    "give_up_on",
    STATUSES,
    Default("[]"),
    "HTTP statuses that end in a dead letter at once, as `given_up`.",
);
pub(super) static RETRY_ON: Setting<List<Whole>> = Setting::new(
    "retry_on",
    STATUSES,
    Nothing("every status that isn't success, 410 or in `give_up_on`"),
    "The only HTTP statuses that are tried again; each other one that isn't success ends in a dead letter at once, as \
     `given_up` (a 410 as `gone`, unless it is named). Empty: none is. Time-outs and broken connections are always tried again.",
);
