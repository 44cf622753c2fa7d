//! Whether a stream of the engine's that is there already keeps what is stored in it. One that would drop tasks or dead
//! letters without a word is refused before the first event is taken.

use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};

use super::streams::{DLQ_AGE, StreamsError};

/// What is wrong with a stream, and the command that mends it.
struct Misfit {
    what: &'static str,
    mend: Mend,
}

enum Mend {
    /// `nats stream edit <stream>` with these flags.
    Edit(&'static str),
    /// The same with these subjects.
    Subjects(String),
    /// What no edit can change.
    Anew,
}

/// The stream of waits has no limit of any kind: the server deletes waits silently to keep one.
pub(super) fn retries(config: &Config) -> Result<(), StreamsError> {
    let limited = config.max_messages > 0
        || config.max_bytes > 0
        || config.max_messages_per_subject > 0
        || !config.max_age.is_zero();
    let misfit = if limited {
        let what = "it has a limit (messages, bytes, messages a subject or age), and a limit on it deletes waiting retries";
        let mend = Mend::Edit("--max-msgs=-1 --max-bytes=-1 --max-msgs-per-subject=-1 --max-age=0s");
        Some(Misfit { what, mend })
    } else if !config.allow_message_schedules {
        let mend = Mend::Edit("--allow-schedules");
        Some(Misfit { what: "it does not allow message schedules", mend })
    } else {
        work_queue(config)
    };
    verdict(config, misfit)
}

/// The stream of lanes may be full, but never make room for new tasks by dropping old ones.
pub(super) fn lanes(config: &Config) -> Result<(), StreamsError> {
    let ages = || {
        let what = "it has a maximum age, which deletes tasks that wait in their lanes";
        (!config.max_age.is_zero()).then_some(Misfit { what, mend: Mend::Edit("--max-age=0s") })
    };
    verdict(config, work_queue(config).or_else(ages).or_else(|| drops(config)))
}

/// Dead letters go by their age alone.
pub(super) fn dead_letters(config: &Config) -> Result<(), StreamsError> {
    let interest = || {
        let what = "its retention is interest, which keeps nothing that no consumer waits for";
        (config.retention == RetentionPolicy::Interest).then_some(Misfit { what, mend: Mend::Anew })
    };
    verdict(config, interest().or_else(|| drops(config)))?;
    let age = config.max_age;
    if !age.is_zero() && age < DLQ_AGE {
        tracing::warn!(stream = config.name, ?age, "dead letters are removed sooner than after 30 days");
    }
    Ok(())
}

/// Streams of tasks take whatever their server takes: what came from a source has to fit there.
pub(super) fn whole_messages(config: &Config, max_payload: usize) -> Result<(), StreamsError> {
    let limit = usize::try_from(config.max_message_size).unwrap_or(0);
    let misfit = (limit > 0 && limit < max_payload).then_some(Misfit {
        what: "it takes smaller messages than its server does, so that tasks may not fit into it",
        mend: Mend::Edit("--max-msg-size=-1"),
    });
    verdict(config, misfit)
}

/// It takes its own subjects and nothing else, from nowhere else: what others put there can't be read, and what has no place
/// there is refused.
pub(super) fn takes_its_own(config: &Config, subjects: &[String]) -> Result<(), StreamsError> {
    let sorted = |subjects: &[String]| {
        let mut sorted = subjects.to_vec();
        sorted.sort();
        sorted
    };
    let (what, mend) =
        if config.mirror.is_some() || config.sources.as_ref().is_some_and(|all| !all.is_empty()) {
            ("it takes messages from other streams, which are no tasks", Mend::Anew)
        } else if sorted(&config.subjects) != sorted(subjects) {
            ("it has other subjects than the engine's", Mend::Subjects(subjects.join(",")))
        } else {
            return Ok(());
        };
    verdict(config, Some(Misfit { what, mend }))
}

/// Acknowledged tasks must go, and tasks must stay while no consumer is there.
fn work_queue(config: &Config) -> Option<Misfit> {
    let what =
        "its retention is not work queue: it would keep what is done, or drop what no consumer waits for";
    (config.retention != RetentionPolicy::WorkQueue).then_some(Misfit { what, mend: Mend::Anew })
}

/// A limit that is kept by dropping the oldest: with `discard = old` every one, else that of messages a subject, unless new
/// ones are refused for each subject too.
fn drops(config: &Config) -> Option<Misfit> {
    let (whole, by_subject) =
        (config.max_messages > 0 || config.max_bytes > 0, config.max_messages_per_subject > 0);
    let drops_old = config.discard == DiscardPolicy::Old && (whole || by_subject);
    if drops_old || (by_subject && !config.discard_new_per_subject) {
        let mend = if by_subject { "--discard=new --discard-per-subject" } else { "--discard=new" };
        let what = "it drops the oldest messages to make room for new ones";
        return Some(Misfit { what, mend: Mend::Edit(mend) });
    }
    None
}

fn verdict(config: &Config, misfit: Option<Misfit>) -> Result<(), StreamsError> {
    let stream = config.name.clone();
    let Some(Misfit { what, mend }) = misfit else {
        if config.storage == StorageType::Memory {
            tracing::warn!(
                stream,
                "this stream is kept in memory: what is in it is lost when nats-server ends"
            );
        }
        return Ok(());
    };
    let mend = match mend {
        Mend::Edit(flags) => format!("mend it with `nats stream edit {stream} {flags}`"),
        Mend::Subjects(subjects) => format!("mend it with `nats stream edit {stream} --subjects={subjects}`"),
        Mend::Anew => {
            format!("when it is empty, delete it with `nats stream rm {stream}`: it will be made anew")
        }
    };
    Err(StreamsError::Unfit { stream, what: what.to_owned(), mend })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use async_nats::jetstream::stream::Source;

    use super::*;

    fn base(retention: RetentionPolicy) -> Config {
        Config { name: "S".to_owned(), retention, allow_message_schedules: true, ..Config::default() }
    }

    fn said(result: Result<(), StreamsError>) -> String {
        result.err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn whatever_would_drop_a_task_or_a_dead_letter_is_refused_with_the_command_that_mends_it() {
        type Change = fn(&mut Config);
        type Check = fn(&Config) -> Result<(), StreamsError>;
        let (old, new): (Change, Change) =
            (|config| config.discard = DiscardPolicy::Old, |config| config.discard = DiscardPolicy::New);
        let messages: Change = |config| config.max_messages = 5;
        let bytes: Change = |config| config.max_bytes = 5;
        let of_subject: Change = |config| config.max_messages_per_subject = 5;
        let each: Change = |config| config.discard_new_per_subject = true;
        let age: Change = |config| config.max_age = Duration::from_secs(5);
        let interest: Change = |config| config.retention = RetentionPolicy::Interest;
        let unscheduled: Change = |config| config.allow_message_schedules = false;
        let cases: [(Check, &[Change], &str); 19] = [
            (lanes, &[new, of_subject, each], ""),
            (lanes, &[old], ""),
            (lanes, &[new, messages], ""),
            (lanes, &[old, messages], "edit S --discard=new`"),
            (lanes, &[old, bytes], "edit S --discard=new`"),
            (lanes, &[old, of_subject], "edit S --discard=new --discard-per-subject`"),
            (lanes, &[new, of_subject], "edit S --discard=new --discard-per-subject`"),
            (lanes, &[new, age], "edit S --max-age=0s`"),
            (lanes, &[interest], "rm S`"),
            (dead_letters, &[new, age, bytes], ""),
            (dead_letters, &[old, age], ""),
            (dead_letters, &[old, messages], "edit S --discard=new`"),
            (dead_letters, &[new, of_subject], "edit S --discard=new --discard-per-subject`"),
            (dead_letters, &[interest], "rm S`"),
            (retries, &[], ""),
            (retries, &[new, messages], "--max-msgs=-1"),
            (retries, &[age], "--max-age=0s`"),
            (retries, &[unscheduled], "--allow-schedules`"),
            (retries, &[interest], "rm S`"),
        ];
        for (number, (check, changes, mend)) in cases.into_iter().enumerate() {
            let mut config = base(RetentionPolicy::WorkQueue);
            for change in changes {
                change(&mut config);
            }
            let said = said(check(&config));
            assert_eq!(said.is_empty(), mend.is_empty(), "{number}: {said}");
            assert!(said.contains(mend), "{number}: {said}");
        }
        let small = Config { max_message_size: 999, ..base(RetentionPolicy::WorkQueue) };
        assert_eq!(said(whole_messages(&small, 999)), "");
        assert!(said(whole_messages(&small, 1_000)).contains("edit S --max-msg-size=-1`"));
        let own = ["a.>".to_owned(), "b.>".to_owned()];
        let with = |subjects: &[&str]| Config {
            subjects: subjects.iter().map(|&subject| subject.to_owned()).collect(),
            ..base(RetentionPolicy::WorkQueue)
        };
        assert_eq!(said(takes_its_own(&with(&["b.>", "a.>"]), &own)), "");
        for other in [&["a.>"][..], &["a.>", "b.>", "c.>"]] {
            assert!(said(takes_its_own(&with(other), &own)).ends_with("edit S --subjects=a.>,b.>`"));
        }
        let from_others = Config { sources: Some(vec![Source::default()]), ..with(&["a.>", "b.>"]) };
        assert!(said(takes_its_own(&from_others, &own)).contains("rm S`"));
        assert!(said(lanes(&base(RetentionPolicy::Limits))).contains("not work queue"));
        assert_eq!(said(dead_letters(&base(RetentionPolicy::Limits))), "");
    }
}
