//! Reads a test file.

use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use toml::de::DeValue;

use super::kinds::Reason as ReasonKind;
use super::{
    ANSWERS, ATTRIBUTES, At, BODY, DATA, DEAD_LETTERED, DELIVERED_TABLE, Delivered, ENDING, ERROR, EVENT,
    EVENT_FILE, EXPECT, End, FILTERED, HEADERS, INCLUDES, MODE, Mode, NAME, NOW, SUBJECT, SUITE, Suite,
    TESTS, Test, UNMATCHED, URL,
};
use crate::config::read_bytes;
use crate::config::report::{Code, Problem};
use crate::config::setting::{About, Context, File, Found, Kind, Table};
use crate::model::{Event, Name, Reason};

/// Reads a test file whose TOML is fine. `None` after a problem was reported.
pub(in crate::config) fn read(file: &File<'_>, top: &Table<'_>, path: &Path) -> Option<Suite> {
    let mut names: Vec<String> = Vec::new();
    let tables = top.many(&SUITE, &TESTS);
    if tables.is_empty() {
        let hint = "write [[test]] with a name, an event and what is expected";
        top.wrong(Code::MissingKey, "there is no test".to_owned(), hint);
        return None;
    }
    let tests: Vec<_> =
        tables.into_iter().map(|table| table.and_then(|table| test(file, &table, &mut names))).collect();
    let tests: Option<Vec<_>> = tests.into_iter().collect();
    let stem = path.file_name()?.to_string_lossy().strip_suffix(ENDING)?.to_owned();
    let pipeline = path.with_file_name(format!("{stem}.toml"));
    if !pipeline.is_file() {
        let message = format!("there is no pipeline {} for these tests", pipeline.display());
        let hint = format!("orders{ENDING} holds the tests of orders.toml in the same folder");
        file.report(Code::NoPipeline, &(0..0), "", message, hint);
        return None;
    }
    Some(Suite { file: path.to_owned(), pipeline, tests: tests? })
}

fn test(file: &File<'_>, table: &Table<'_>, names: &mut Vec<String>) -> Option<Test> {
    let name = table.get(&NAME);
    let line = file.line(&table.given(&NAME).unwrap_or_else(|| table.at()));
    if let (Some(name), Some(at)) = (&name, table.given(&NAME)) {
        if names.contains(name) {
            let hint = "each test has a name of its own";
            table.context(NAME.key()).wrong(Code::Duplicate, &at, format!("is {name:?} a second time"), hint);
        }
        names.push(name.clone());
    }
    let mode = table.get(&MODE);
    let now = table.optional(&NOW).ok();
    let answers = table.optional(&ANSWERS).ok();
    let event = event(table, mode);
    let expected = expected(table);
    let (rejected, expect) = expected?;
    let answers = answers?.unwrap_or_default();
    Some(Test { name: name?, line, event: event?, mode: mode?, now: now?, answers, rejected, expect })
}

/// The message's text, and that it can be published in this mode.
fn event(table: &Table<'_>, mode: Option<Mode>) -> Option<Bytes> {
    let (about, text) = match (table.given(&EVENT), table.given(&EVENT_FILE)) {
        (Some(_), None) => (&EVENT as &dyn About, table.optional(&EVENT).ok()??),
        (None, Some(at)) => {
            let path = table.optional(&EVENT_FILE).ok()??;
            (&EVENT_FILE as &dyn About, event_file(table, &path, &at)?)
        }
        (Some(_), Some(at)) => {
            let hint = "give exactly one of event and event_file";
            table.context(EVENT_FILE.key()).wrong(Code::Conflict, &at, "stands beside event", hint);
            return None;
        }
        (None, None) => {
            let hint = "give an event in the file, or the path of one as event_file";
            table.wrong(Code::MissingKey, "test has neither event nor event_file".to_owned(), hint);
            return None;
        }
    };
    if mode? == Mode::Binary
        && let Err(error) = Event::from_structured_or_all(&text)
    {
        let hint = "only a CloudEvent can be published in binary mode";
        let at = table.given(about).unwrap_or_default();
        table.context(about.key()).wrong(Code::BadEvent, &at, format!("is none: {error}"), hint);
        return None;
    }
    Some(text)
}

fn event_file(table: &Table<'_>, path: &Path, at: &Range<usize>) -> Option<Bytes> {
    let context = table.context(EVENT_FILE.key());
    let (said, hint) = match read_bytes(path) {
        Ok(bytes) => match serde_json::from_slice::<&serde_json::value::RawValue>(&bytes) {
            Ok(_) => return Some(bytes.into()),
            Err(error) => (format!("doesn't hold one event as JSON: {error}"), "a test publishes one event"),
        },
        Err(error) => (error.to_string(), "the path starts at the folder of the test file"),
    };
    context.wrong(Code::BadEvent, at, said, hint);
    None
}

type Expected = (Option<At<Reason>>, Vec<(At<String>, Vec<End>)>);

fn expected(table: &Table<'_>) -> Option<Expected> {
    let context = table.context(EXPECT.key());
    let hint = "name a subscription, as in expect.warehouse = { filtered = \"match\" }, or write expect = { rejected = \"schema\" }";
    let Some(found) = table.found(&EXPECT) else {
        context.wrong(Code::MissingKey, &table.at(), "is missing", hint);
        return None;
    };
    let Some(map) = found.get_ref().as_table() else {
        context.wrong_type(found, "a table", hint);
        return None;
    };
    if map.is_empty() {
        context.wrong(Code::MissingKey, &found.span(), "names nothing, so the test can't fail", hint);
        return None;
    }
    let (mut rejected, mut all) = (None, Vec::new());
    for (name, value) in map {
        let of_one = context.below(name.get_ref());
        let at = At { value: name.get_ref().to_string(), line: table.file.line(&name.span()) };
        match value.get_ref() {
            DeValue::String(_) if at.value == "rejected" => {
                let line = at.line;
                rejected = ReasonKind.read(&of_one, value).map(|value| At { value, line });
                if rejected.is_none() {
                    all.push(None);
                }
            }
            DeValue::Array(items) if !items.is_empty() => {
                let ends: Vec<_> = items.iter().map(|item| end(table, &of_one, item)).collect();
                let ends: Option<Vec<_>> = ends.into_iter().collect();
                all.push(ends.map(|ends| (at, ends)));
            }
            _ => all.push(end(table, &of_one, value).map(|end| (at, vec![end]))),
        }
    }
    let all: Vec<_> = all.into_iter().collect::<Option<_>>()?;
    if rejected.is_some() && !all.is_empty() {
        let hint = "a rejected event reaches no subscription";
        context.wrong(Code::Conflict, &found.span(), "has rejected beside subscriptions", hint);
        return None;
    }
    Some((rejected, all))
}

fn end(test: &Table<'_>, context: &Context<'_>, found: &Found<'_>) -> Option<End> {
    let table = test.named(&SUITE, &EXPECT, context, found)?;
    let ways: [&dyn About; 4] = [&DELIVERED_TABLE, &FILTERED, &DEAD_LETTERED, &UNMATCHED];
    let given: Vec<_> = ways.into_iter().filter_map(|way| Some((way.key(), table.given(way)?))).collect();
    let hint = "give exactly one of delivered, filtered, dead_lettered and unmatched";
    match given.as_slice() {
        [] => {
            context.wrong(Code::MissingKey, &found.span(), "says nothing", hint);
            return None;
        }
        [_] => {}
        [(first, _), (second, at), ..] => {
            table.context(second).wrong(Code::Conflict, at, format!("stands beside {first}"), hint);
            return None;
        }
    }
    if let (Some(at), None) = (table.given(&ERROR), table.given(&DEAD_LETTERED)) {
        let hint = "the text of a filtered event stands in filtered itself";
        table.context(ERROR.key()).wrong(Code::Conflict, &at, "stands without dead_lettered", hint);
        return None;
    }
    if table.given(&UNMATCHED).is_some() {
        return table.get(&UNMATCHED).map(|()| End::Unmatched);
    }
    if table.given(&FILTERED).is_some() {
        return table.get(&FILTERED).map(End::Filtered);
    }
    if table.given(&DEAD_LETTERED).is_some() {
        let (reason, error) = (table.get(&DEAD_LETTERED), table.optional(&ERROR).ok());
        return Some(End::DeadLettered { reason: reason?, error: error? });
    }
    if table.found(&DELIVERED_TABLE).is_some_and(|found| found.get_ref().as_bool() == Some(true)) {
        return Some(End::Delivered(Delivered::default()));
    }
    delivered(&table.one(&SUITE, &DELIVERED_TABLE)?).map(End::Delivered)
}

fn delivered(table: &Table<'_>) -> Option<Delivered> {
    let body = table.optional(&BODY).ok();
    let data = table.optional(&DATA).ok();
    let includes = table.optional(&INCLUDES).ok();
    let attributes = table.optional(&ATTRIBUTES).ok();
    let headers = table.optional(&HEADERS).ok();
    let url = table.optional(&URL).ok();
    let subject = table.optional(&SUBJECT).ok();
    Some(Delivered {
        body: body?,
        data: data?,
        includes: includes?,
        attributes: attributes?.unwrap_or_default(),
        headers: headers?.unwrap_or_default(),
        url: url?,
        subject: subject?,
    })
}

/// What can be known of a test only once its pipeline is: that the subscriptions that it names are there.
pub fn check_names(suite: &Suite, subscriptions: &[&Name]) -> Vec<Problem> {
    let unknown = |at: &At<String>, key: &str| {
        if subscriptions.iter().any(|known| known.as_str() == at.value) {
            return None;
        }
        let distance = |name: &&&Name| strsim::damerau_levenshtein(&at.value, name.as_str());
        let near = subscriptions
            .iter()
            .min_by_key(distance)
            .filter(|name| distance(name) <= 1 + name.as_str().len() / 4);
        let hint = if let Some(near) = near {
            format!("did you mean {near}?")
        } else {
            let all: Vec<&str> = subscriptions.iter().map(|name| name.as_str()).collect();
            format!("its subscriptions are {}", all.join(", "))
        };
        let message = format!("{key}.{} is no subscription of {}", at.value, suite.pipeline.display());
        let problem = Problem::new(Code::UnknownSubscription, suite.file.display().to_string(), message);
        Some(problem.at(at.line, 1).key(format!("{key}.{}", at.value)).hint(hint))
    };
    let of_test = |test: &Test| {
        let answers = test.answers.iter().filter_map(|(at, _)| unknown(at, "test.answers"));
        let expect = test.expect.iter().filter_map(|(at, _)| unknown(at, "test.expect"));
        answers.chain(expect).collect::<Vec<_>>()
    };
    suite.tests.iter().flat_map(of_test).collect()
}
