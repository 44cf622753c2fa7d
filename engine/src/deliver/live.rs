//! Values behind references, made anew when what they refer to has changed.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::model::{SecretError, SecretRef, SecretText, Timestamp};

/// A file is read again after this long at the earliest.
const FILE_KEPT: Duration = Duration::from_secs(1);

/// A reference, and what was made of its value last. Plain text is made once; an environment variable is read at each use and
/// a file at most once a second, but made anew only when the text is another one.
pub(super) struct Live<T, E> {
    reference: SecretRef,
    make: fn(&str) -> Result<T, E>,
    last: Mutex<Option<Last<T, E>>>,
}

struct Last<T, E> {
    text: SecretText,
    read: Timestamp,
    made: Result<T, E>,
}

/// Why there is no value.
#[derive(Debug)]
pub(super) enum LiveError<E> {
    /// The reference leads nowhere.
    Missing(SecretError),
    /// There is a text, but nothing can be made of it.
    Unusable(E),
}

impl<T: Clone, E: Clone> Live<T, E> {
    pub(super) fn new(reference: SecretRef, make: fn(&str) -> Result<T, E>) -> Self {
        Self { reference, make, last: Mutex::new(None) }
    }

    /// The value as of `now`. Errors are not kept: a secret that appears is used at once.
    pub(super) fn get(&self, now: Timestamp) -> Result<T, LiveError<E>> {
        self.get_from(now, SecretRef::resolve)
    }

    fn get_from(
        &self,
        now: Timestamp,
        resolve: impl FnOnce(&SecretRef) -> Result<SecretText, SecretError>,
    ) -> Result<T, LiveError<E>> {
        // The value is replaced as a whole, so one left behind by a panic is as good as any.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = last.as_ref().filter(|last| self.is_fresh(last.read, now)) {
            return last.made.clone().map_err(LiveError::Unusable);
        }
        let text = resolve(&self.reference).map_err(LiveError::Missing)?;
        let made = match last.take() {
            Some(last) if last.text == text => last.made,
            _ => (self.make)(text.expose()),
        };
        *last = Some(Last { text, read: now, made: made.clone() });
        made.map_err(LiveError::Unusable)
    }

    /// What the reference names, for an error text.
    pub(super) fn reference(&self) -> &SecretRef {
        &self.reference
    }

    fn is_fresh(&self, read: Timestamp, now: Timestamp) -> bool {
        match self.reference {
            SecretRef::Plain(_) => true,
            SecretRef::Env { .. } => false,
            // A clock that was set back must not keep an old secret alive.
            SecretRef::File { .. } => now >= read && now.since(read) < FILE_KEPT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_unix_nanos(millis * 1_000_000)
    }

    fn length(text: &str) -> Result<usize, ()> {
        if text == "bad" { Err(()) } else { Ok(text.len()) }
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
        std::fs::write(&path, "bad").unwrap();
        assert_eq!(live.get(at(2000)).unwrap(), 5);
        assert!(matches!(live.get(at(2001)), Err(LiveError::Unusable(()))));
        std::fs::write(&path, "good").unwrap();
        assert_eq!(live.get(at(1500)).unwrap(), 4, "the clock was set back");
    }

    #[test]
    fn an_environment_variable_is_read_at_each_use() {
        let live = Live::new(SecretRef::Env { name: "X".into(), prefix: String::new() }, length);
        // A process can't change its own environment safely, so the test stands in for it.
        let get = |value: &str| live.get_from(at(0), |_| Ok(SecretText::new(value)));
        assert_eq!(get("one").unwrap(), 3);
        assert_eq!(get("three").unwrap(), 5);
        let missing = live.get_from(at(0), |_| Err(SecretError::EnvMissing("X".into())));
        assert!(matches!(missing, Err(LiveError::Missing(SecretError::EnvMissing(_)))));
        assert_eq!(get("four").unwrap(), 4);
    }

    #[test]
    fn plain_text_is_made_once() {
        let live = Live::new(SecretRef::Plain("four".into()), length);
        assert_eq!(live.get(at(0)).unwrap(), 4);
        assert_eq!(live.get(at(5000)).unwrap(), 4);
    }
}
