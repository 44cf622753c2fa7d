//! Puts a pipeline together from its settings.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::checked::{Pipeline, Places, Step, Subscription, Target};
use super::keys::{
    ALLOW, ATTEMPTS, BURST, CIRCUIT_TABLE, CONCURRENCY, DELIVER_TABLE, DENY, DISABLE_AFTER, FAILURES, FOR,
    FORMAT, GIVE_UP_ON, HEADERS, INITIAL, ISOLATION, JITTER, LLM, MATCH, MAX, MAX_AGE, MAX_IN_FLIGHT, MEMORY,
    MULTIPLIER, NAME, ON_ERROR, OUTPUT, PIPELINE, PROBE, PROBE_MAX, PUBLISH_TABLE, PUBLISH_TIMEOUT, RATE,
    RATIO, READING, RETRY_AFTER_MAX, RETRY_ON, RETRY_TABLE, SCHEDULE, SCHEMA_FILE, SCHEMA_TYPES, SCHEMAS,
    SETTINGS, SIGN, SOURCE_TABLE, START, STEP_TIMEOUT, STEPS, STREAM, SUBJECT, SUBJECTS, SUBSCRIPTION_NAME,
    SUBSCRIPTIONS, TIMEOUT, TRANSFORM, TYPES, UNKNOWN, URL, VALIDATE_TABLE, WEBHOOK_ID,
};
use super::report::Code;
use super::setting::{About, Context, File, Reported, Table};
use crate::deliver::{self, publish};
use crate::lane::{Policy, Rate, circuit};
use crate::model::{Name, SubjectTemplate};
use crate::nats::Prefix;
use crate::{egress, filter, source, transform, validate};

/// Reads a file whose TOML is fine. `None` after a problem was reported.
pub(super) fn read(
    file: &File<'_>,
    top: &Table<'_>,
    path: &Path,
    revision: String,
    prefix: &Prefix,
) -> Option<(Pipeline, Range<usize>)> {
    let name = name(file, top, path);
    let source = top.one(&PIPELINE, &SOURCE_TABLE).and_then(|table| source(&table, prefix));
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
        .map(|table| table.and_then(|table| subscription(&table, (source.as_ref(), prefix), &mut names)))
        .collect();
    let subscriptions: Option<Vec<_>> = subscriptions.into_iter().collect();
    let (name, at) = name?;
    let (source, validate, mut subscriptions) = (source?, validate?, subscriptions?);
    for subscription in &mut subscriptions {
        let owner: Arc<str> = format!("{name}/{}", subscription.name).into();
        for step in &mut subscription.steps {
            step.transform.owner = Arc::clone(&owner);
        }
    }
    Some((Pipeline { name, file: path.to_owned(), revision, source, validate, subscriptions }, at))
}

/// The name, and where it stands.
fn name(file: &File<'_>, top: &Table<'_>, path: &Path) -> Option<(Name, Range<usize>)> {
    if let Some(name) = top.optional(&NAME).ok()? {
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

fn source(table: &Table<'_>, prefix: &Prefix) -> Option<source::Settings> {
    let stream = table.get(&STREAM).filter(|stream| is_no_own_stream(table, stream, prefix));
    let subjects = table.get(&SUBJECTS);
    let start = table.get(&START);
    let max_in_flight = table.get(&MAX_IN_FLIGHT);
    let reading = table.get(&READING);
    let webhook_id = table.get(&WEBHOOK_ID);
    Some(source::Settings {
        stream: stream?.into(),
        subjects: subjects?,
        start: start?,
        max_in_flight: to_usize(max_in_flight?),
        reading: reading?,
        webhook_id: webhook_id?,
    })
}

/// What the engine stores itself would be taken, and stored again, without end.
fn is_no_own_stream(table: &Table<'_>, stream: &str, prefix: &Prefix) -> bool {
    let is_own = prefix.is_own_stream(stream);
    if is_own {
        let at = table.given(&STREAM).unwrap_or_default();
        let said = format!(
            "is \"{stream}\", a stream of the engine's own: what it stores would come back to it without end"
        );
        let hint = "name a stream of yours; `hookmill dlq redrive` brings dead letters back";
        table.context(STREAM.key()).wrong(Code::OwnStream, &at, said, hint);
    }
    !is_own
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

fn subscription(table: &Table<'_>, engine: Engine<'_>, names: &mut Vec<Name>) -> Option<Subscription> {
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
    let matches = table.optional(&MATCH).ok();
    let steps: Vec<_> = table.many(&PIPELINE, &STEPS).into_iter().map(|table| step(&table?)).collect();
    let steps: Option<Vec<_>> = steps.into_iter().collect();
    let retry = table.one(&PIPELINE, &RETRY_TABLE).and_then(|table| retry(&table));
    let target = target(table, engine, retry.as_ref());
    let filter = filter::Settings { types: types?, matches: matches? };
    let circuit = table.one(&PIPELINE, &CIRCUIT_TABLE).and_then(|table| circuit(&table));
    let Sending { target, places, concurrency, rate } = target?;
    Some(Subscription {
        name: name?,
        filter,
        steps: steps?,
        target,
        target_places: places,
        concurrency,
        rate,
        circuit: circuit?,
        retry: retry?.policy,
    })
}

fn step(table: &Table<'_>) -> Option<Step> {
    // A model's step has been refused already; asking for a transform as well would only confuse.
    let reference = if table.given(&LLM).is_some() { None } else { table.get(&TRANSFORM) };
    let settings = table.get(&SETTINGS);
    let unset = |about: &dyn About| table.given(about).is_none();
    let unset =
        transform::Unset { timeout: unset(&STEP_TIMEOUT), memory: unset(&MEMORY), output: unset(&OUTPUT) };
    let timeout = table.get(&STEP_TIMEOUT);
    let memory_bytes = table.get(&MEMORY);
    let output_bytes = table.get(&OUTPUT);
    let isolation = table.get(&ISOLATION);
    let on_error = table.get(&ON_ERROR);
    let (reference, written) = reference?;
    let reference_at = table.given(&TRANSFORM).unwrap_or_default();
    let settings_at = table.given(&SETTINGS).unwrap_or_else(|| reference_at.clone());
    let (settings, settings_places) = settings?;
    let transform = transform::Settings {
        settings,
        timeout: timeout?,
        memory_bytes: memory_bytes?,
        output_bytes: output_bytes?,
        isolation: isolation?,
        unset,
        // The pipeline's name is known when all of it has been read.
        owner: Arc::default(),
    };
    Some(Step {
        reference,
        written,
        transform,
        reference_line: table.file.line(&reference_at),
        settings_line: table.file.line(&settings_at),
        settings_places,
        on_error: on_error?,
    })
}

/// Where events go, and how many at once.
struct Sending {
    target: Target,
    places: Places,
    concurrency: usize,
    rate: Option<Rate>,
}

/// The source of the pipeline, if it can be read, and the prefix of the engine.
type Engine<'e> = (Option<&'e source::Settings>, &'e Prefix);

fn target(table: &Table<'_>, engine: Engine<'_>, retry: Option<&Retry>) -> Option<Sending> {
    let hint = "give exactly one of [subscription.deliver] and [subscription.publish]";
    match (table.given(&DELIVER_TABLE), table.given(&PUBLISH_TABLE)) {
        (None, None) => {
            table.wrong(Code::MissingKey, "subscription has neither deliver nor publish".to_owned(), hint);
            None
        }
        (deliver_at, publish_at) => {
            let deliver = deliver_at.and_then(|_| deliver(&table.one(&PIPELINE, &DELIVER_TABLE)?, retry));
            let publish =
                publish_at.as_ref().and_then(|_| publish(&table.one(&PIPELINE, &PUBLISH_TABLE)?, engine));
            if let (Some(_), Some(at)) = (table.given(&DELIVER_TABLE), publish_at) {
                table.context(PUBLISH_TABLE.key()).wrong(Code::Conflict, &at, "stands beside deliver", hint);
                return None;
            }
            deliver.or(publish)
        }
    }
}

fn deliver(table: &Table<'_>, retry: Option<&Retry>) -> Option<Sending> {
    let url = table.get(&URL);
    let format = table.get(&FORMAT);
    let headers = table.get(&HEADERS);
    let sign = table.get(&SIGN);
    let timeout = table.get(&TIMEOUT);
    let concurrency = table.get(&CONCURRENCY);
    let rate = rate(table).ok();
    let allow = table.get(&ALLOW);
    let deny = table.get(&DENY);
    let retry = retry?;
    let target = Target::Deliver(deliver::Settings {
        url: url?,
        format: format?,
        headers: headers?,
        sign: sign?,
        timeout: timeout?,
        give_up_on: retry.give_up_on.clone(),
        retry_on: retry.only_on.clone(),
        retry_after_max: retry.after_max,
        reach: egress::Policy { allow: allow?, deny: deny? },
    });
    let about: [&dyn About; 4] = [&URL, &HEADERS, &SIGN, &CONCURRENCY];
    let place =
        |about: &dyn About| Some((format!("/{}", about.key()), table.file.place(&table.given(about)?)));
    let places = Places(about.into_iter().filter_map(place).collect());
    Some(Sending { target, places, concurrency: to_usize(concurrency?), rate: rate? })
}

/// `rate` with its `burst`.
fn rate(table: &Table<'_>) -> Result<Option<Rate>, Reported> {
    let rate = table.optional(&RATE);
    let burst = table.optional(&BURST)?;
    let rate = rate?;
    if let (None, Some(at)) = (&rate, table.given(&BURST)) {
        let hint = "give rate as well, or leave burst out";
        table.context(BURST.key()).wrong(Code::Conflict, &at, "stands without rate", hint);
        return Err(Reported);
    }
    let burst = burst.map(|burst| u32::try_from(burst).unwrap_or(u32::MAX));
    Ok(rate.map(|rate| Rate { burst: burst.unwrap_or(rate.burst), ..rate }))
}

fn circuit(table: &Table<'_>) -> Option<circuit::Settings> {
    let failures = table.get(&FAILURES);
    let failing_for = table.get(&FOR);
    let ratio = table.optional(&RATIO).ok();
    let probe_first = table.get(&PROBE);
    let probe_max = table.get(&PROBE_MAX);
    let disable_after = table.get(&DISABLE_AFTER);
    let (probe_first, probe_max) = (probe_first?, probe_max?);
    if let Some(at) = table.given(&PROBE).filter(|_| probe_first > probe_max) {
        let hint = "make probe_max longer, or probe shorter";
        table.context(PROBE.key()).wrong(Code::Conflict, &at, "is longer than probe_max", hint);
        return None;
    }
    Some(circuit::Settings {
        failures: u32::try_from(failures?).unwrap_or(u32::MAX),
        failing_for: failing_for?,
        ratio: ratio?,
        probe_first: probe_first.min(probe_max),
        probe_max,
        disable_after: disable_after?,
    })
}

fn publish(table: &Table<'_>, (source, prefix): Engine<'_>) -> Option<Sending> {
    let subject = table.get(&SUBJECT);
    let timeout = table.get(&PUBLISH_TIMEOUT);
    let concurrency = table.get(&CONCURRENCY);
    let subject = subject?;
    let at = table.given(&SUBJECT).unwrap_or_default();
    let context = table.context(SUBJECT.key());
    let always = |token: &str| subject.always_matches(token) || subject.always_matches(&format!("{token}.>"));
    if let Some(token) = prefix.own_tokens().into_iter().find(|token| always(token)) {
        let hint = format!("publish to a subject that doesn't start with {token}.");
        context.wrong(Code::BadSubject, &at, "is a subject of the engine's own", hint);
        return None;
    }
    source.is_none_or(|source| no_loop(&context, &at, &subject, &takes(source, prefix))).then_some(())?;
    let mut places = Places([("/subject".to_owned(), table.file.place(&at))].into());
    if let Some(at) = table.given(&CONCURRENCY) {
        places.0.insert("/concurrency".to_owned(), table.file.place(&at));
    }
    let settings = publish::Settings { subject, timeout: timeout? };
    let target = Target::Publish(settings);
    Some(Sending { target, places, concurrency: to_usize(concurrency?), rate: None })
}

/// The subjects that a source takes, as far as files tell: what a stream of the user's holds as a whole isn't known here.
pub(super) fn takes(source: &source::Settings, prefix: &Prefix) -> Vec<String> {
    if !source.subjects.is_empty() {
        return source.subjects.clone();
    }
    prefix.events_subjects(&source.stream).iter().map(|&subject| subject.to_owned()).collect()
}

/// Whether the pipeline's own source leaves the subject alone, or may do so. Ways over other pipelines are looked at when all are
/// read (`loops.rs`).
fn no_loop(context: &Context<'_>, at: &Range<usize>, subject: &SubjectTemplate, takes: &[String]) -> bool {
    let Some(pattern) = takes.iter().find(|pattern| subject.always_matches(pattern)) else { return true };
    let hint = "publish to a subject that the source of this pipeline doesn't take";
    let said = format!("is \"{subject}\", which this pipeline's own source takes by \"{pattern}\"");
    context.wrong(Code::Loop, at, said, hint);
    false
}

/// `[subscription.retry]`, of which the delivery needs a part.
struct Retry {
    policy: Policy,
    after_max: Duration,
    give_up_on: Vec<u16>,
    only_on: Option<Vec<u16>>,
}

fn retry(table: &Table<'_>) -> Option<Retry> {
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
    let max_age = table.optional(&MAX_AGE).ok();
    let retry_after_max = table.get(&RETRY_AFTER_MAX);
    let statuses = statuses(table);
    let schedule = if other.is_some() { computed } else { listed };
    let policy = Policy { schedule: schedule?, jitter: jitter?, max_age: max_age? };
    let (give_up_on, only_on) = statuses?;
    Some(Retry { policy, after_max: retry_after_max?, give_up_on, only_on })
}

/// `give_up_on` and `retry_on`, which have no status in common.
fn statuses(table: &Table<'_>) -> Option<(Vec<u16>, Option<Vec<u16>>)> {
    let give_up_on = table.get(&GIVE_UP_ON);
    let retry_on = table.optional(&RETRY_ON).ok();
    let (give_up_on, retry_on) = (give_up_on?, retry_on?);
    let both = retry_on.iter().flatten().find(|status| give_up_on.contains(status));
    if let Some(both) = both {
        let at = table.given(&RETRY_ON).unwrap_or_default();
        let said = format!("names {both}, which give_up_on names too");
        let hint = format!("leave {both} out of retry_on, or out of give_up_on");
        table.context(RETRY_ON.key()).wrong(Code::Conflict, &at, said, hint);
        return None;
    }
    let small = |statuses: Vec<u64>| {
        statuses.into_iter().filter_map(|status| u16::try_from(status).ok()).collect::<Vec<u16>>()
    };
    Some((small(give_up_on), retry_on.map(small)))
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
