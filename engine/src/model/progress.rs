//! Which of two stored states of one task is further on, and what follows from it. Pure.
//!
//! A task may be stored in several places at once for a while: its lease beside its place in a lane, a copy that another
//! engine has made of it. Something of it may be let go of only where another state of it is known to be *further on*: a
//! state goes away only after its successor, or the task's end, is stored. So the furthest one is never let go of.

use std::cmp::Ordering;

/// How far a state of a task has come. Of two states of one task the one with more stores behind it is further on,
/// whatever has become of the count of attempts: that one begins anew behind a step that was skipped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Raised by each redrive.
    pub generation: u64,
    /// Attempts made.
    pub attempt: u32,
    /// Stores so far, this one included; 0: never stored, or by a version that didn't count.
    pub stores: u64,
}

/// What a wait that is there means for the one to be stored in its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaitThere {
    /// An earlier state: to be replaced.
    Behind,
    /// The state that was to be stored: it is stored, by us or by another that came from the same one.
    Same,
    /// A later state: the task goes on with it.
    Ahead,
}

impl Progress {
    /// The next stored state of the same task.
    #[must_use]
    pub fn stored(self) -> Self {
        Self { stores: next_store(self.stores), ..self }
    }

    /// How far `self` is compared with `other`; none: one of them was stored by a version that didn't count, and the other
    /// was not stored yet, or by such a version too.
    fn compared(&self, other: &Self) -> Option<Ordering> {
        match self.generation.cmp(&other.generation) {
            Ordering::Equal if self.stores == 0 && other.stores == 0 => None,
            Ordering::Equal => Some(self.stores.cmp(&other.stores)),
            unequal => Some(unequal),
        }
    }

    /// Whether the task goes on elsewhere: `there`, a wait of the task that this is a state of, is further on. Only then may
    /// this state be let go of.
    pub fn goes_on_at(&self, there: &Self) -> bool {
        // Uncounted: any wait of the own generation was taken for the task's own.
        there.compared(self).is_none_or(Ordering::is_gt)
    }

    /// What the wait `there` means for this state, which is to be stored in its place.
    pub fn meets(&self, there: &Self) -> WaitThere {
        match there.compared(self) {
            Some(Ordering::Less) => WaitThere::Behind,
            Some(Ordering::Equal) => WaitThere::Same,
            None if self.attempt == there.attempt => WaitThere::Same,
            Some(Ordering::Greater) | None => WaitThere::Ahead,
        }
    }
}

/// Stores behind the next state of a task of which the furthest known one has `stores`.
pub fn next_store(stores: u64) -> u64 {
    stores + 1
}

/// Stores behind the furthest state that an attempt knows of, where a copy of its task joins it.
pub fn joined(attempt: u64, copy: u64) -> u64 {
    attempt.max(copy)
}

/// Whether what holds a state with `held` stores may be settled once one with `stored` of them is there, and the attempt
/// goes on.
pub fn is_settled_by(held: u64, stored: u64) -> bool {
    held < stored
}

/// What to do after a wait was not stored, or is not known to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AfterRefusal {
    /// Try again with this sequence as the expected last one of the subject.
    Expect(u64),
    /// It is stored, with this sequence.
    Stored(u64),
    /// The task goes on elsewhere.
    Elsewhere,
    /// Nothing is known: try again later.
    Ask,
}

/// What follows from the wait that is there (its sequence, and how far it has come; no task is nothing to keep) for one that
/// was to be stored on top of the sequence `expected`.
pub fn after_refusal(
    storing: &Progress,
    expected: u64,
    there: Option<(u64, Option<Progress>)>,
) -> AfterRefusal {
    // It fired or was never there: once more, on an empty subject.
    let Some((sequence, there)) = there else {
        return if expected == 0 { AfterRefusal::Ask } else { AfterRefusal::Expect(0) };
    };
    match there.map_or(WaitThere::Behind, |there| storing.meets(&there)) {
        WaitThere::Behind if expected == sequence => AfterRefusal::Ask,
        WaitThere::Behind => AfterRefusal::Expect(sequence),
        WaitThere::Same => AfterRefusal::Stored(sequence),
        WaitThere::Ahead => AfterRefusal::Elsewhere,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(generation: u64, attempt: u32, stores: u64) -> Progress {
        Progress { generation, attempt, stores }
    }

    #[test]
    fn only_what_is_further_on_lets_go_of_a_state() {
        for (held, there, goes_on) in [
            (state(0, 1, 2), state(0, 1, 1), false),
            (state(0, 1, 2), state(0, 1, 2), false),
            (state(0, 1, 2), state(0, 1, 3), true),
            (state(0, 5, 2), state(0, 0, 3), true),
            (state(1, 0, 1), state(0, 9, 9), false),
            (state(0, 9, 9), state(1, 0, 1), true),
            // From the source, never stored.
            (state(0, 0, 0), state(0, 1, 1), true),
            // Stored by a version that didn't count.
            (state(0, 0, 0), state(0, 1, 0), true),
            (state(0, 1, 0), state(0, 1, 0), true),
            (state(0, 1, 3), state(0, 2, 0), false),
            (state(1, 0, 0), state(0, 1, 0), false),
        ] {
            assert_eq!(held.goes_on_at(&there), goes_on, "{held:?} {there:?}");
        }
    }

    #[test]
    fn a_wait_is_replaced_by_what_is_further_on_alone() {
        for (own, there, meets) in [
            (state(0, 1, 3), state(0, 1, 1), WaitThere::Behind),
            (state(0, 2, 3), state(0, 1, 3), WaitThere::Same),
            (state(0, 2, 3), state(0, 0, 4), WaitThere::Ahead),
            (state(1, 0, 1), state(0, 0, 4), WaitThere::Behind),
            (state(0, 0, 4), state(1, 0, 1), WaitThere::Ahead),
            // Stored by a version that didn't count.
            (state(0, 2, 1), state(0, 9, 0), WaitThere::Behind),
            (state(0, 2, 0), state(0, 2, 0), WaitThere::Same),
            (state(0, 2, 0), state(0, 1, 0), WaitThere::Ahead),
        ] {
            assert_eq!(own.meets(&there), meets, "{own:?} {there:?}");
        }
    }

    #[test]
    fn what_is_held_is_settled_by_a_later_state_alone() {
        assert!(is_settled_by(1, 2));
        assert!(!is_settled_by(2, 2));
        assert!(!is_settled_by(3, 2));
    }
}
