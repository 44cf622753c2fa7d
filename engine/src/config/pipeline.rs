//! The settings of a pipeline file, and how they are put together.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use super::checked::{
    Deliver, Format, Isolation, OnError, Pipeline, Publish, Retry, Source, Step, Subscription, Target,
};
use super::kinds::{Choice, Cidr, List, NameKind, Number, Size, Time, Types, Whole};
use super::report::Code;
use super::setting::Absent::{Default, Missing, Nothing};
use super::setting::{About, Context, File, Later, Section, Setting, Sub, Table};
use super::values::{
    Headers, JitterKind, JsonTable, Match, ModulePath, SchemaFile, Secret, StartKind, Stream, Subject,
    Template, Url,
};
use crate::filter;
use crate::model::{Name, SubjectTemplate};
use crate::validate::{self, Unknown};

const MILLISECOND: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Most waits in a retry schedule.
const RETRIES_MAX: usize = 100;

pub(super) static PIPELINE: Section = Section {
    header: "",
    label: "",
    about: "At the top of the file.",
    keys: &[&NAME, &SOURCE_TABLE, &VALIDATE_TABLE, &SUBSCRIPTIONS],
};

static NAME: Setting<NameKind> = Setting::new(
    "name",
    NameKind,
    Nothing("the name of the file without `.toml`"),
    "The pipeline's name, unique among all that are loaded together. Consumers, lanes and dead letters carry it: \
     a pipeline with another name is another pipeline.",
);
static SOURCE_TABLE: Sub = Sub::one("source", &SOURCE);
static VALIDATE_TABLE: Sub = Sub::one("validate", &VALIDATE);
static SUBSCRIPTIONS: Sub = Sub::many("subscription", &SUBSCRIPTION);

static SOURCE: Section = Section {
    header: "[source]",
    label: "source",
    about: "Where events come from: a stream of yours, which the engine only reads. It adds one durable consumer, \
            `hookmill-<pipeline>`.",
    keys: &[&STREAM, &SUBJECTS, &START, &MAX_IN_FLIGHT],
};

static STREAM: Setting<Stream> =
    Setting::new("stream", Stream, Default("\"HOOKMILL_EVENTS\""), "The JetStream stream.");
static SUBJECTS: Setting<List<Subject>> = Setting::new(
    "subjects",
    List { item: Subject, max: 100 },
    Default("[]"),
    "Subjects that are taken. Empty: everything in the stream.",
);
static START: Setting<StartKind> = Setting::new(
    "start",
    StartKind,
    Default("\"new\""),
    "Where to start the first time. It counts only where no earlier position is kept.",
);
static MAX_IN_FLIGHT: Setting<Whole> = Setting::new(
    "max_in_flight",
    Whole { min: 1, max: 65_536 },
    Default("2048"),
    "Most events of this pipeline that one engine works on at once.",
);

static VALIDATE: Section = Section {
    header: "[validate]",
    label: "validate",
    about: "Checks the data of events against JSON Schemas. An event that its schema refuses is dead-lettered once, \
            for the pipeline as a whole.",
    keys: &[&UNKNOWN, &SCHEMAS],
};

static UNKNOWN: Setting<Choice<Unknown>> = Setting::new(
    "unknown",
    Choice(&[("accept", Unknown::Accept), ("reject", Unknown::Reject)]),
    Default("\"accept\""),
    "What becomes of an event that no schema covers.",
);
static SCHEMAS: Sub = Sub::many("schema", &SCHEMA);

static SCHEMA: Section = Section {
    header: "[[validate.schema]]",
    label: "schema",
    about: "One schema. The first whose `types` match covers an event; where none does, the one whose `$id` is the \
            event's `dataschema`.",
    keys: &[&SCHEMA_TYPES, &SCHEMA_FILE],
};

static SCHEMA_TYPES: Setting<Types> =
    Setting::new("types", Types, Default("[]"), "Which event types it covers. Empty: all.");
static SCHEMA_FILE: Setting<SchemaFile> = Setting::new(
    "file",
    SchemaFile,
    Missing,
    "The schema: draft 2020-12 (the default), 2019-09 or 7, by its `$schema`. `$ref` stays in the schema's folder; \
     nothing is fetched.",
);

static SUBSCRIPTION: Section = Section {
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
    ],
};

static SUBSCRIPTION_NAME: Setting<NameKind> =
    Setting::new("name", NameKind, Missing, "The subscription's name, unique within the pipeline.");
static TYPES: Setting<Types> =
    Setting::new("types", Types, Default("[]"), "Which event types it wants. Empty, or `[\"*\"]`: all.");
static FILTER: Later = Later::new("filter", "CloudEvents SQL over the attributes; types and match work");
static MATCH: Setting<Match> = Setting::new(
    "match",
    Match,
    Nothing("every event of its types"),
    "What the data has to fulfil. An event without JSON data doesn't match. Example: \
     `{ required = [\"total\"], properties = { total = { minimum = 10 } } }`",
);
static STEPS: Sub = Sub::many("step", &STEP);
static DELIVER_TABLE: Sub = Sub::one("deliver", &DELIVER);
static PUBLISH_TABLE: Sub = Sub::one("publish", &PUBLISH);
static RETRY_TABLE: Sub = Sub::one("retry", &RETRY);

static STEP: Section = Section {
    header: "[[subscription.step]]",
    label: "step",
    about: "A WebAssembly module that changes, splits or drops events. Steps run in their order.",
    keys: &[&TRANSFORM, &LLM, &SETTINGS, &STEP_TIMEOUT, &MEMORY, &OUTPUT, &ISOLATION, &ON_ERROR],
};

static TRANSFORM: Setting<ModulePath> = Setting::new("transform", ModulePath, Missing, "The module.");
static LLM: Later = Later::new("llm", "steps that ask a language model come later");
static SETTINGS: Setting<JsonTable> = Setting::new(
    "settings",
    JsonTable,
    Default("{}"),
    "Handed to the module as JSON. The module checks it, also in `hookmill check`.",
);
static STEP_TIMEOUT: Setting<Time> = Setting::new(
    "timeout",
    Time { min: MILLISECOND, max: MINUTE },
    Default("\"1s\""),
    "Longest time of one call, by the clock on the wall.",
);
static MEMORY: Setting<Size> = Setting::new(
    "memory",
    Size { min: MIB, max: 4 * GIB },
    Default("\"128MiB\""),
    "Most linear memory of one instance.",
);
static OUTPUT: Setting<Size> = Setting::new(
    "output",
    Size { min: KIB, max: 64 * MIB },
    Default("\"4MiB\""),
    "Most that one call may return, all events and headers together.",
);
static ISOLATION: Setting<Choice<Isolation>> = Setting::new(
    "isolation",
    Choice(&[("instance", Isolation::Instance), ("event", Isolation::Event)]),
    Default("\"instance\""),
    "Whether an instance serves one event after the other, or every event gets a fresh one.",
);
static ON_ERROR: Setting<Choice<OnError>> = Setting::new(
    "on_error",
    Choice(&[("dead-letter", OnError::DeadLetter), ("drop", OnError::Drop), ("skip", OnError::Skip)]),
    Default("\"dead-letter\""),
    "What becomes of an event when the step has failed for good: a dead letter, an end as filtered, or on as it was.",
);

static DELIVER: Section = Section {
    header: "[subscription.deliver]",
    label: "deliver",
    about: "A webhook: `POST`, signed after Standard Webhooks. 2xx is success, everything else is retried.",
    keys: &[&URL, &FORMAT, &HEADERS, &SIGN, &TIMEOUT, &CONCURRENCY, &RATE, &ALLOW],
};

static URL: Setting<Url> = Setting::new(
    "url",
    Url,
    Missing,
    "The endpoint. Plain `http://` only reaches addresses that `allow` names.",
);
static FORMAT: Setting<Choice<Format>> = Setting::new(
    "format",
    Choice(&[("structured", Format::Structured), ("binary", Format::Binary), ("data", Format::Data)]),
    Default("\"structured\""),
    "The body: the whole event as JSON, the data with the attributes in `ce-*` headers, or the data alone.",
);
static HEADERS: Setting<Headers> = Setting::new(
    "headers",
    Headers,
    Default("{}"),
    "Further headers. `webhook-*`, `ce-*`, `host`, `content-*` and those of the connection are the engine's.",
);
static SIGN: Setting<List<Secret>> = Setting::new(
    "sign",
    List { item: Secret, max: 10 },
    Default("[]"),
    "Secrets (`whsec_…`) to sign with, one signature each, so that one can follow another without a gap.",
);
static TIMEOUT: Setting<Time> = Setting::new(
    "timeout",
    Time { min: MILLISECOND, max: Duration::from_secs(600) },
    Default("\"15s\""),
    "Longest time of one attempt: resolving, connecting, TLS, headers and body together.",
);
static CONCURRENCY: Setting<Whole> = Setting::new(
    "concurrency",
    Whole { min: 1, max: 10_000 },
    Default("64"),
    "Most attempts of one engine at once.",
);
static RATE: Later = Later::new("rate", "concurrency bounds what is sent at once");
static ALLOW: Setting<List<Cidr>> = Setting::new(
    "allow",
    List { item: Cidr, max: 1000 },
    Default("[]"),
    "Networks that this endpoint may be in although they are refused otherwise: loopback, private and the like.",
);

static PUBLISH: Section = Section {
    header: "[subscription.publish]",
    label: "publish",
    about: "A publish to a JetStream subject, done when the stream has acknowledged it.",
    keys: &[&SUBJECT, &PUBLISH_TIMEOUT, &CONCURRENCY],
};

static SUBJECT: Setting<Template> = Setting::new(
    "subject",
    Template,
    Missing,
    "The subject. Values are percent-encoded outside `[A-Za-z0-9_.-]`; an attribute that is not there becomes `_`. \
     The pipeline's own source must not take it.",
);
static PUBLISH_TIMEOUT: Setting<Time> = Setting::new(
    "timeout",
    Time { min: MILLISECOND, max: MINUTE },
    Default("\"5s\""),
    "Longest wait for the publish ack.",
);

static RETRY: Section = Section {
    header: "[subscription.retry]",
    label: "retry",
    about: "When a failed attempt is repeated. Either `schedule`, or `attempts`, `initial`, `multiplier` and `max`. \
            An event whose retries are used up is dead-lettered as `exhausted`.",
    keys: &[&SCHEDULE, &ATTEMPTS, &INITIAL, &MULTIPLIER, &MAX, &JITTER, &RETRY_AFTER_MAX, &GIVE_UP_ON],
};

const WAIT: Time = Time { min: MILLISECOND, max: Duration::from_secs(7 * 24 * 60 * 60) };

static SCHEDULE: Setting<List<Time>> = Setting::new(
    "schedule",
    List { item: WAIT, max: RETRIES_MAX },
    Default("[\"5s\", \"5m\", \"30m\", \"2h\", \"5h\", \"10h\", \"14h\", \"20h\", \"24h\"]"),
    "The wait before each further attempt. Empty: no retries.",
);
static ATTEMPTS: Setting<Whole> = Setting::new(
    "attempts",
    Whole { min: 1, max: RETRIES_MAX as u64 + 1 },
    Default("8"),
    "Attempts in all, the first one included. With this, `initial`, `multiplier` or `max` there is no `schedule`.",
);
static INITIAL: Setting<Time> = Setting::new("initial", WAIT, Default("\"1s\""), "The first wait.");
static MULTIPLIER: Setting<Number> = Setting::new(
    "multiplier",
    Number { min: 1.0, max: 100.0 },
    Default("2.0"),
    "What each wait is multiplied by.",
);
static MAX: Setting<Time> = Setting::new("max", WAIT, Default("\"1h\""), "The longest wait.");
static JITTER: Setting<JitterKind> = Setting::new(
    "jitter",
    JitterKind,
    Default("0.2"),
    "How chance spreads each wait, so that retries don't come as one.",
);
static RETRY_AFTER_MAX: Setting<Time> = Setting::new(
    "retry_after_max",
    Time { min: Duration::ZERO, max: Duration::from_secs(7 * 24 * 60 * 60) },
    Default("\"1h\""),
    "Longest time that an endpoint's `Retry-After` is obeyed for.",
);
static GIVE_UP_ON: Setting<List<Whole>> = Setting::new(
    "give_up_on",
    List { item: Whole { min: 300, max: 599 }, max: 300 },
    Default("[]"),
    "HTTP statuses that end in a dead letter at once, as `given_up`.",
);

/// Reads a file whose TOML is fine. `None` after a problem was reported.
pub(super) fn read(
    file: &File<'_>,
    top: &Table<'_>,
    path: &Path,
    revision: String,
) -> Option<(Pipeline, Range<usize>)> {
    let name = name(file, top, path);
    let source = top.one(&PIPELINE, &SOURCE_TABLE).and_then(|table| source(&table));
    let validate = top.one(&PIPELINE, &VALIDATE_TABLE).and_then(|table| validate(&table));
    let tables = top.many(&PIPELINE, &SUBSCRIPTIONS);
    if tables.is_empty() {
        let hint = "write [[subscription]] with a name and [subscription.deliver] with a url";
        top.wrong(Code::MissingKey, "there is no subscription".to_owned(), hint);
        return None;
    }
    let mut names: Vec<Name> = Vec::new();
    let subscriptions: Vec<_> = tables
        .into_iter()
        .map(|table| table.and_then(|table| subscription(&table, source.as_ref(), &mut names)))
        .collect();
    let subscriptions: Option<Vec<_>> = subscriptions.into_iter().collect();
    let (name, at) = name?;
    let (source, validate, subscriptions) = (source?, validate?, subscriptions?);
    Some((Pipeline { name, file: path.to_owned(), revision, source, validate, subscriptions }, at))
}

/// The name, and where it stands.
fn name(file: &File<'_>, top: &Table<'_>, path: &Path) -> Option<(Name, Range<usize>)> {
    if let Some(name) = top.optional(&NAME)? {
        return Some((name, top.given(&NAME).unwrap_or_default()));
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let name = Name::new(&stem).ok();
    if name.is_none() {
        let message = format!("the name of the file gives the name {stem:?}, which is none");
        file.report(Code::BadName, &(0..0), NAME.key(), message, "give it one: name = \"orders\"".to_owned());
    }
    name.map(|name| (name, 0..0))
}

fn source(table: &Table<'_>) -> Option<Source> {
    let stream = table.get(&STREAM);
    let subjects = table.get(&SUBJECTS);
    let start = table.get(&START);
    let max_in_flight = table.get(&MAX_IN_FLIGHT);
    Some(Source {
        stream: stream?,
        subjects: subjects?,
        start: start?,
        max_in_flight: to_usize(max_in_flight?),
    })
}

fn validate(table: &Table<'_>) -> Option<validate::Settings> {
    let unknown = table.get(&UNKNOWN);
    let rules: Vec<_> = table.many(&PIPELINE, &SCHEMAS).into_iter().map(|table| rule(&table?)).collect();
    Some(validate::Settings { unknown: unknown?, rules: rules.into_iter().collect::<Option<_>>()? })
}

fn rule(table: &Table<'_>) -> Option<validate::Rule> {
    let types = table.get(&SCHEMA_TYPES);
    let (label, schema) = table.get(&SCHEMA_FILE)?;
    let id = schema.id().map(str::to_owned);
    Some(validate::Rule { types: types?, label, id, schema })
}

fn subscription(table: &Table<'_>, source: Option<&Source>, names: &mut Vec<Name>) -> Option<Subscription> {
    let name = table.get(&SUBSCRIPTION_NAME);
    if let (Some(name), Some(at)) = (&name, table.given(&SUBSCRIPTION_NAME)) {
        if names.contains(name) {
            let hint = "names of subscriptions are unique within their pipeline";
            table.context(SUBSCRIPTION_NAME.key()).wrong(
                Code::Duplicate,
                &at,
                format!("is {:?} a second time", name.as_str()),
                hint,
            );
        }
        names.push(name.clone());
    }
    let types = table.get(&TYPES);
    let matches = table.optional(&MATCH);
    let steps: Vec<_> = table.many(&PIPELINE, &STEPS).into_iter().map(|table| step(&table?)).collect();
    let steps: Option<Vec<_>> = steps.into_iter().collect();
    let retry = table.one(&PIPELINE, &RETRY_TABLE).and_then(|table| retry(&table));
    let target =
        target(table, source, retry.as_ref().map(|(retry, give_up_on)| (retry, give_up_on.as_slice())));
    let filter = filter::Settings { types: types?, matches: matches? };
    let (target, concurrency) = target?;
    Some(Subscription { name: name?, filter, steps: steps?, target, concurrency, retry: retry?.0 })
}

fn step(table: &Table<'_>) -> Option<Step> {
    // A model's step has been refused already; asking for a transform as well would only confuse.
    let reference = if table.given(&LLM).is_some() { None } else { table.get(&TRANSFORM) };
    let settings = table.get(&SETTINGS);
    let timeout = table.get(&STEP_TIMEOUT);
    let memory_bytes = table.get(&MEMORY);
    let output_bytes = table.get(&OUTPUT);
    let isolation = table.get(&ISOLATION);
    let on_error = table.get(&ON_ERROR);
    let reference = reference?;
    let reference_at = table.given(&TRANSFORM).unwrap_or_default();
    let settings_at = table.given(&SETTINGS).unwrap_or_else(|| reference_at.clone());
    Some(Step {
        reference,
        settings: settings?,
        reference_line: table.file.line(&reference_at),
        settings_line: table.file.line(&settings_at),
        timeout: timeout?,
        memory_bytes: memory_bytes?,
        output_bytes: output_bytes?,
        isolation: isolation?,
        on_error: on_error?,
    })
}

fn target(
    table: &Table<'_>,
    source: Option<&Source>,
    retry: Option<(&Retry, &[u16])>,
) -> Option<(Target, usize)> {
    let hint = "give exactly one of [subscription.deliver] and [subscription.publish]";
    match (table.given(&DELIVER_TABLE), table.given(&PUBLISH_TABLE)) {
        (None, None) => {
            table.wrong(Code::MissingKey, "subscription has neither deliver nor publish".to_owned(), hint);
            None
        }
        (deliver_at, publish_at) => {
            let deliver = deliver_at.and_then(|_| deliver(&table.one(&PIPELINE, &DELIVER_TABLE)?, retry));
            let publish =
                publish_at.as_ref().and_then(|_| publish(&table.one(&PIPELINE, &PUBLISH_TABLE)?, source));
            if let (Some(_), Some(at)) = (table.given(&DELIVER_TABLE), publish_at) {
                table.context(PUBLISH_TABLE.key()).wrong(Code::Conflict, &at, "stands beside deliver", hint);
                return None;
            }
            deliver.or(publish)
        }
    }
}

fn deliver(table: &Table<'_>, retry: Option<(&Retry, &[u16])>) -> Option<(Target, usize)> {
    let url = table.get(&URL);
    let format = table.get(&FORMAT);
    let headers = table.get(&HEADERS);
    let sign = table.get(&SIGN);
    let timeout = table.get(&TIMEOUT);
    let concurrency = table.get(&CONCURRENCY);
    let allow = table.get(&ALLOW);
    let (retry, give_up_on) = retry?;
    let target = Target::Deliver(Deliver {
        url: url?,
        format: format?,
        headers: headers?,
        sign: sign?,
        timeout: timeout?,
        give_up_on: give_up_on.to_vec(),
        retry_after_max: retry.retry_after_max,
        allow: allow?,
    });
    Some((target, to_usize(concurrency?)))
}

fn publish(table: &Table<'_>, source: Option<&Source>) -> Option<(Target, usize)> {
    let subject = table.get(&SUBJECT);
    let timeout = table.get(&PUBLISH_TIMEOUT);
    let concurrency = table.get(&CONCURRENCY);
    let subject = subject?;
    let at = table.given(&SUBJECT).unwrap_or_default();
    if subject.to_string().starts_with("hookmill.") {
        let hint = "publish to a subject that doesn't start with hookmill.";
        table.context(SUBJECT.key()).wrong(Code::BadSubject, &at, "is a subject of the engine's own", hint);
        return None;
    }
    source.is_none_or(|source| no_loop(&table.context(SUBJECT.key()), &at, &subject, source)).then_some(())?;
    Some((Target::Publish(Publish { subject, timeout: timeout? }), to_usize(concurrency?)))
}

/// Whether the source leaves the subject alone. What a stream of the user's holds as a whole isn't known here.
fn no_loop(context: &Context<'_>, at: &Range<usize>, subject: &SubjectTemplate, source: &Source) -> bool {
    let all = ["events.>".to_owned()];
    let takes = if source.subjects.is_empty() && source.stream == "HOOKMILL_EVENTS" {
        &all[..]
    } else {
        &source.subjects
    };
    let Some(pattern) = takes.iter().find(|pattern| subject.can_match(pattern)) else { return true };
    let hint = "publish to a subject that the source of this pipeline doesn't take";
    let said = format!("is \"{subject}\", which this pipeline's own source takes by \"{pattern}\"");
    context.wrong(Code::Loop, at, said, hint);
    false
}

fn retry(table: &Table<'_>) -> Option<(Retry, Vec<u16>)> {
    let exponential: [&dyn About; 4] = [&ATTEMPTS, &INITIAL, &MULTIPLIER, &MAX];
    let other = exponential.into_iter().find(|about| table.given(*about).is_some());
    if let (Some(other), Some(at)) = (other, table.given(&SCHEDULE)) {
        let said = format!("stands beside {}", other.key());
        let hint = "give either schedule, or attempts, initial, multiplier and max";
        table.context(SCHEDULE.key()).wrong(Code::Conflict, &at, said, hint);
    }
    let listed = table.get(&SCHEDULE);
    let computed = exponential_schedule(table);
    let jitter = table.get(&JITTER);
    let retry_after_max = table.get(&RETRY_AFTER_MAX);
    let give_up_on = table.get(&GIVE_UP_ON);
    let schedule = if other.is_some() { computed } else { listed };
    let retry = Retry { schedule: schedule?, jitter: jitter?, retry_after_max: retry_after_max? };
    let statuses = give_up_on?.into_iter().filter_map(|status| u16::try_from(status).ok());
    Some((retry, statuses.collect()))
}

fn exponential_schedule(table: &Table<'_>) -> Option<Vec<Duration>> {
    let attempts = table.get(&ATTEMPTS);
    let initial = table.get(&INITIAL);
    let multiplier = table.get(&MULTIPLIER);
    let max = table.get(&MAX);
    let (multiplier, max) = (multiplier?, max?);
    let initial = initial?;
    if table.given(&INITIAL).is_some() && initial > max {
        let at = table.given(&INITIAL).unwrap_or_default();
        table.context(INITIAL.key()).wrong(
            Code::Conflict,
            &at,
            "is longer than max",
            "make max longer, or initial shorter",
        );
        return None;
    }
    let waits = std::iter::successors(Some(initial.min(max)), |wait| {
        Duration::try_from_secs_f64(wait.as_secs_f64() * multiplier).ok().map(|next| next.min(max))
    });
    Some(waits.take(to_usize(attempts?) - 1).collect())
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
