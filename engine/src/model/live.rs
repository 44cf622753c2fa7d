//! Values behind references: made anew when what they refer to has changed, and served on for a while when it can't be read.

use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{SecretError, SecretRef, SecretText, Timestamp};

/// A file is read again after this long at the earliest, unless there is nothing to serve.
const FILE_KEPT: Duration = Duration::from_secs(1);

/// Longest time that the last good value serves while its reference has none.
pub const LAST_GOOD_MAX: Duration = Duration::from_mins(10);

/// A reference, and what was made of its value last. Plain text is made once; an environment variable is read at each use and
/// a file at most once a second, but made anew only when the text is another one.
pub struct Live<T, E> {
    reference: SecretRef,
    make: fn(&str) -> Result<T, E>,
    known: Mutex<Option<Known<T, E>>>,
}

/// What the last look has found.
#[derive(Clone)]
struct Known<T, E> {
    looked: Timestamp,
    last_good: Option<Good<T>>,
    trouble: Option<Trouble<E>>,
}

#[derive(Clone)]
struct Good<T> {
    text: SecretText,
    made: T,
}

#[derive(Clone)]
struct Trouble<E> {
    error: LiveError<E>,
    since: Timestamp,
}

/// Why there is no value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LiveError<E> {
    /// The reference leads nowhere.
    Missing(SecretError),
    /// There is a text, but nothing can be made of it.
    Unusable(E),
}

impl<T: Clone, E: Clone> Known<T, E> {
    /// What serves at `now`.
    fn value(&self, now: Timestamp) -> Result<T, LiveError<E>> {
        match (&self.trouble, &self.last_good) {
            (None, Some(good)) => Ok(good.made.clone()),
            (Some(trouble), Some(good)) if now.since(trouble.since) < last_good_max() => {
                Ok(good.made.clone())
            }
            (Some(trouble), _) => Err(trouble.error.clone()),
            (None, None) => unreachable!("a look finds a value or trouble"),
        }
    }
}

impl<T: Clone, E: Clone> Live<T, E> {
    /// A reference that has not been looked at yet.
    pub fn new(reference: SecretRef, make: fn(&str) -> Result<T, E>) -> Self {
        Self { reference, make, known: Mutex::new(None) }
    }

    /// The value as of `now`: the last good one for [`LAST_GOOD_MAX`] while there is no other. Without one nothing is kept, so
    /// that a secret that appears is used at once.
    pub fn get(&self, now: Timestamp) -> Result<T, LiveError<E>> {
        self.get_from(now, SecretRef::resolve)
    }

    fn get_from(
        &self,
        now: Timestamp,
        resolve: impl FnOnce(&SecretRef) -> Result<SecretText, SecretError>,
    ) -> Result<T, LiveError<E>> {
        let mut known = self.known();
        if let Some(known) = known.as_ref().filter(|known| self.is_fresh(known, now)) {
            return known.value(now);
        }
        let before = known.take();
        known.insert(self.look(before, now, resolve)).value(now)
    }

    fn look(
        &self,
        before: Option<Known<T, E>>,
        now: Timestamp,
        resolve: impl FnOnce(&SecretRef) -> Result<SecretText, SecretError>,
    ) -> Known<T, E> {
        let (last_good, trouble) = before.map_or((None, None), |known| (known.last_good, known.trouble));
        let found = resolve(&self.reference).map_err(LiveError::Missing).and_then(|text| {
            match last_good.as_ref().filter(|good| good.text == text) {
                Some(good) => Ok(good.clone()),
                None => {
                    (self.make)(text.expose()).map(|made| Good { text, made }).map_err(LiveError::Unusable)
                }
            }
        });
        match found {
            Ok(good) => Known { looked: now, last_good: Some(good), trouble: None },
            Err(error) => {
                // A clock that was set back must not keep an old secret alive.
                let since = trouble.map_or(now, |trouble| trouble.since.min(now));
                Known { looked: now, last_good, trouble: Some(Trouble { error, since }) }
            }
        }
    }

    /// What is wrong while the last good value serves on.
    pub fn serves_on_after(&self, now: Timestamp) -> Option<LiveError<E>> {
        let known = self.known();
        let known = known.as_ref().filter(|known| known.value(now).is_ok())?;
        known.trouble.as_ref().map(|trouble| trouble.error.clone())
    }

    /// Takes over what another one knows of the same reference.
    pub fn take_after(&self, other: &Self) {
        if self.reference == other.reference {
            let known = other.known().clone();
            *self.known() = known;
        }
    }

    /// What is wrong with the setting `what`, and how it is mended. Never the value.
    pub fn says(&self, what: &str, error: &LiveError<E>) -> String
    where
        E: Display,
    {
        let mend = match &self.reference {
            SecretRef::Plain(_) => "",
            SecretRef::Env { .. } => "; an engine sees another value once it is started again",
            SecretRef::File { .. } => "; once the file is mended it goes on by itself",
        };
        match (error, &self.reference) {
            (LiveError::Missing(error), _) => format!("{what}: {error}{mend}"),
            (LiveError::Unusable(error), SecretRef::Plain(_)) => format!("{what}: {error}"),
            (LiveError::Unusable(error), SecretRef::Env { name, .. }) => {
                format!("{what} (environment variable {name}): {error}{mend}")
            }
            (LiveError::Unusable(error), SecretRef::File { path, .. }) => {
                format!("{what} (file {}): {error}{mend}", path.display())
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Option<Known<T, E>>> {
        // What is known is replaced as a whole, so one left behind by a panic is as good as any.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_fresh(&self, known: &Known<T, E>, now: Timestamp) -> bool {
        match self.reference {
            SecretRef::Plain(_) => true,
            SecretRef::Env { .. } => false,
            SecretRef::File { .. } => {
                now >= known.looked && now.since(known.looked) < FILE_KEPT && known.value(now).is_ok()
            }
        }
    }
}

/// What looks at some references have found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Findings {
    /// References without a value.
    pub wrong: Vec<Finding>,
    /// References whose last good value serves on.
    pub served_on: Vec<Finding>,
}

/// What is wrong with one of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The setting, such as `sign` or the name of a header.
    pub setting: String,
    /// Setting, reference, what is wrong and how it is mended; never the value.
    pub text: String,
}

impl Findings {
    /// Looks at the reference of the setting `what`.
    pub fn look_at<T: Clone, E: Clone + Display>(&mut self, what: &str, live: &Live<T, E>, now: Timestamp) {
        let finding = |error| Finding { setting: what.to_owned(), text: live.says(what, &error) };
        match live.get(now) {
            Ok(_) => self.served_on.extend(live.serves_on_after(now).map(finding)),
            Err(error) => self.wrong.push(finding(error)),
        }
    }

    /// The texts as one.
    pub fn joined(findings: &[Finding]) -> String {
        findings.iter().map(|finding| finding.text.as_str()).collect::<Vec<_>>().join("; ")
    }
}

/// [`LAST_GOOD_MAX`]; in builds for tests, the milliseconds of `HOOKMILL_TEST_LAST_GOOD_MS`.
#[cfg(debug_assertions)]
fn last_good_max() -> Duration {
    let set = std::env::var("HOOKMILL_TEST_LAST_GOOD_MS").ok().and_then(|text| text.parse().ok());
    set.map_or(LAST_GOOD_MAX, Duration::from_millis)
}

#[cfg(not(debug_assertions))]
fn last_good_max() -> Duration {
    LAST_GOOD_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_unix_nanos(millis * 1_000_000)
    }

    fn length(text: &str) -> Result<usize, &'static str> {
        if text == "bad" { Err("no good") } else { Ok(text.len()) }
    }

    #[test]
    fn a_file_is_read_again_after_a_second() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let live = Live::new(SecretRef::File { path: path.clone(), prefix: String::new() }, length);
        assert!(matches!(live.get(at(0)), Err(LiveError::Missing(_))));
        std::fs::write(&path, "one\n").unwrap();
        assert_eq!(live.get(at(1)).unwrap(), 3, "an error is not kept");
        std::fs::write(&path, "three").unwrap();
        assert_eq!(live.get(at(1000)).unwrap(), 3);
        assert_eq!(live.get(at(1001)).unwrap(), 5);
        std::fs::write(&path, "good").unwrap();
        assert_eq!(live.get(at(500)).unwrap(), 4, "the clock was set back");
    }

    #[test]
    fn the_last_good_value_serves_for_ten_minutes_while_its_file_is_gone_or_holds_nonsense() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let live = Live::new(SecretRef::File { path: path.clone(), prefix: String::new() }, length);
        let minutes = |minutes: u64, millis: u64| at(minutes * 60_000 + millis);
        std::fs::write(&path, "three").unwrap();
        assert_eq!(live.get(at(0)), Ok(5));
        assert_eq!(live.serves_on_after(at(0)), None);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(live.get(minutes(60, 0)), Ok(5), "counted from the first look that failed");
        assert!(matches!(live.serves_on_after(minutes(60, 0)), Some(LiveError::Missing(_))));
        std::fs::write(&path, "bad").unwrap();
        assert_eq!(live.get(minutes(69, 59_999)), Ok(5), "the same trouble, by another name");
        assert_eq!(live.get(minutes(70, 0)), Err(LiveError::Unusable("no good")));
        assert_eq!(live.serves_on_after(minutes(70, 0)), None);
        std::fs::write(&path, "four").unwrap();
        assert_eq!(live.get(minutes(70, 1)), Ok(4));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(live.get(minutes(80, 1)), Ok(4), "the time begins anew");
    }

    #[test]
    fn an_environment_variable_is_read_at_each_use() {
        let live = Live::new(SecretRef::Env { name: "X".into(), prefix: String::new() }, length);
        // A process can't change its own environment safely, so the test stands in for it.
        let get = |value: &str| live.get_from(at(0), |_| Ok(SecretText::new(value)));
        assert_eq!(get("one").unwrap(), 3);
        assert_eq!(get("three").unwrap(), 5);
        let unset = Live::new(SecretRef::Env { name: "X".into(), prefix: String::new() }, length);
        let missing = unset.get_from(at(0), |_| Err(SecretError::EnvMissing("X".into())));
        assert_eq!(missing, Err(LiveError::Missing(SecretError::EnvMissing("X".into()))));
    }

    #[test]
    fn plain_text_is_made_once() {
        let live = Live::new(SecretRef::Plain("four".into()), length);
        assert_eq!(live.get(at(0)).unwrap(), 4);
        assert_eq!(live.get(at(5000)).unwrap(), 4);
        let bad = Live::new(SecretRef::Plain("bad".into()), length);
        assert_eq!(bad.get(at(0)), Err(LiveError::Unusable("no good")));
        assert_eq!(bad.get(at(1)), Err(LiveError::Unusable("no good")));
    }

    #[test]
    fn what_is_known_of_a_reference_goes_over_to_another_one_of_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let live = |prefix: &str| {
            Live::new(SecretRef::File { path: path.clone(), prefix: prefix.to_owned() }, length)
        };
        let old = live("");
        std::fs::write(&path, "three").unwrap();
        assert_eq!(old.get(at(0)), Ok(5));
        std::fs::remove_file(&path).unwrap();
        let (same, other) = (live(""), live("Bearer "));
        same.take_after(&old);
        other.take_after(&old);
        assert_eq!(same.get(at(2000)), Ok(5));
        assert!(other.get(at(2000)).is_err());
    }

    #[test]
    fn texts_name_the_setting_the_reference_and_the_way_out() {
        let missing = LiveError::Missing(SecretError::EnvMissing("X".into()));
        let env = Live::new(SecretRef::Env { name: "X".into(), prefix: String::new() }, length);
        assert_eq!(
            env.says("sign", &missing),
            "sign: environment variable X is not set; an engine sees another value once it is started again"
        );
        let file = Live::new(SecretRef::File { path: "a/b".into(), prefix: String::new() }, length);
        assert_eq!(
            file.says("url", &LiveError::Unusable("no good")),
            "url (file a/b): no good; once the file is mended it goes on by itself"
        );
        let plain = Live::new(SecretRef::Plain("bad".into()), length);
        assert_eq!(plain.says("url", &LiveError::Unusable("no good")), "url: no good");
    }
}
