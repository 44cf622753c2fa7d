//! Every order in which two engines can take the steps of one task, run through the decisions that they take it by
//! ([`crate::model::progress`]): none may end with nothing, neither a stored state nor an end.
//!
//! The world here is what a server holds of the task and where each engine stands. A step is what may happen next: a
//! message is delivered, once more as well while it is held; a wait is read; a store is made, and its ack may be lost; a
//! lease is deleted, as late as it likes; a wait fires; an engine is killed.

use std::collections::HashSet;
use std::hash::BuildHasher;

use crate::model::progress::{AfterRefusal, Progress, after_refusal, is_settled_by, joined, next_store};

/// Where a message of the task lies.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
enum Place {
    Source,
    Due,
    Lane,
}

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
struct Message {
    sequence: u64,
    place: Place,
    state: State,
    delivered: bool,
}

/// Generation, attempts, stores.
type State = (u64, u32, u64);

fn progress((generation, attempt, stores): State) -> Progress {
    Progress { generation, attempt, stores }
}

fn state(of: Progress) -> State {
    (of.generation, of.attempt, of.stores)
}

/// Why a wait is stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
enum Purpose {
    /// The attempt goes on.
    Lease,
    /// The attempt has failed.
    Outcome,
}

/// Where an attempt stands.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
enum At {
    /// Its message was delivered before: is there a wait?
    Asks,
    /// It is attempted, or waits for its slot.
    Runs,
    /// A wait is about to be stored on top of a sequence.
    Publishes(Purpose, State, u64),
    /// The store was refused, or its ack lost: what is there?
    Reads(Purpose, State, u64),
    /// The task is about to be stored in its lane.
    Spills(State),
    /// That is stored, its lease is about to be deleted.
    Deletes(u64),
}

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
struct Attempt {
    at: At,
    state: State,
    open: bool,
    /// The most stores that it knows of.
    stores: u64,
    /// Stores and sequence of what it holds.
    holds: Vec<(u64, u64)>,
    lease: Option<u64>,
    /// Whether it has tried to store one.
    leased: bool,
}

/// How often what makes the search long may still happen.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Budget {
    redeliveries: u8,
    attempts: u8,
    leases: u8,
    fires: u8,
    kills: u8,
    lost_acks: u8,
    skips: u8,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct World {
    messages: Vec<Message>,
    wait: Option<(u64, State)>,
    /// A lease that an engine of before is about to delete.
    doomed: Option<u64>,
    last_sequence: u64,
    engines: [Vec<Attempt>; 2],
    budget: Budget,
}

impl World {
    fn is_lost(&self) -> bool {
        self.messages.is_empty() && self.wait.is_none()
    }

    fn sequence(&mut self) -> u64 {
        self.last_sequence += 1;
        self.last_sequence
    }

    fn store(&mut self, place: Place, state: State) {
        let sequence = self.sequence();
        self.messages.push(Message { sequence, place, state, delivered: false });
    }

    fn acknowledge(&mut self, sequence: u64) {
        self.messages.retain(|message| message.sequence != sequence);
    }

    fn delete_wait(&mut self, sequence: u64) {
        self.wait = self.wait.filter(|(there, _)| *there != sequence);
    }

    /// Everything that may happen next. A delivery to the endpoint and a dead letter are ends: nothing can be lost then.
    fn next(&self) -> Vec<Self> {
        let mut worlds = Vec::new();
        if let Some((_, state)) = self.wait
            && self.budget.fires > 0
        {
            let mut fired = self.clone();
            fired.budget.fires -= 1;
            fired.wait = None;
            fired.store(Place::Due, state);
            worlds.push(fired);
        }
        if let Some(doomed) = self.doomed {
            let mut deleted = self.clone();
            deleted.doomed = None;
            deleted.delete_wait(doomed);
            worlds.push(deleted);
        }
        for engine in 0..2 {
            worlds.extend((0..self.messages.len()).filter_map(|message| self.delivered(engine, message)));
            for attempt in 0..self.engines[engine].len() {
                self.proceed(engine, attempt, &mut worlds);
            }
            if self.budget.kills > 0 && !self.engines[engine].is_empty() {
                let mut killed = self.clone();
                killed.budget.kills -= 1;
                killed.engines[engine].clear();
                worlds.push(killed);
            }
        }
        worlds
    }

    /// The message is delivered, again where it was before.
    fn delivered(&self, engine: usize, message: usize) -> Option<Self> {
        let mut world = self.clone();
        let message = &mut world.messages[message];
        let again = message.delivered;
        if again {
            world.budget.redeliveries = world.budget.redeliveries.checked_sub(1)?;
        }
        message.delivered = true;
        let (state, hold) = (message.state, (message.state.2, message.sequence));
        let at = if again { At::Asks } else { At::Runs };
        let (open, lease, leased) = (false, None, false);
        let attempt = Attempt { at, state, open, stores: state.2, holds: vec![hold], lease, leased };
        if again {
            world.engines[engine].push(attempt);
        } else {
            world.begin(engine, attempt)?;
        }
        Some(world)
    }

    /// Begins an attempt, or lets it join the one that runs in this engine.
    fn begin(&mut self, engine: usize, attempt: Attempt) -> Option<()> {
        let same = |other: &&mut Attempt| other.open && other.state.0 == attempt.state.0;
        if let Some(running) = self.engines[engine].iter_mut().find(same) {
            running.stores = joined(running.stores, attempt.stores);
            running.holds.extend(attempt.holds);
            return Some(());
        }
        self.budget.attempts = self.budget.attempts.checked_sub(1)?;
        self.engines[engine].push(Attempt { at: At::Runs, open: true, ..attempt });
        Some(())
    }

    /// The steps that one attempt may take.
    fn proceed(&self, engine: usize, index: usize, worlds: &mut Vec<Self>) {
        let attempt = &self.engines[engine][index];
        let at = |at: At| {
            let mut world = self.clone();
            world.engines[engine][index].at = at;
            world
        };
        match attempt.at.clone() {
            At::Asks => {
                let mut world = self.clone();
                let attempt = world.engines[engine].remove(index);
                let elsewhere =
                    world.wait.is_some_and(|(_, there)| progress(attempt.state).goes_on_at(&progress(there)));
                if elsewhere {
                    world.settle(&attempt.holds);
                    worlds.push(world);
                } else if world.begin(engine, attempt).is_some() {
                    worlds.push(world);
                }
            }
            At::Runs => self.run(engine, index, worlds),
            At::Publishes(purpose, stored, expected) => {
                let mut world = at(At::Reads(purpose, stored, expected));
                if world.wait.map_or(0, |(sequence, _)| sequence) == expected {
                    let sequence = world.sequence();
                    world.wait = Some((sequence, stored));
                    if world.budget.lost_acks > 0 {
                        let mut unheard = world.clone();
                        unheard.budget.lost_acks -= 1;
                        worlds.push(unheard);
                    }
                    world.is_stored(engine, index, purpose, stored, Some(sequence));
                }
                worlds.push(world);
            }
            At::Reads(purpose, stored, expected) => {
                let there = self.wait.map(|(sequence, there)| (sequence, Some(progress(there))));
                worlds.push(match after_refusal(&progress(stored), expected, there) {
                    AfterRefusal::Expect(sequence) => at(At::Publishes(purpose, stored, sequence)),
                    AfterRefusal::Ask => at(At::Publishes(purpose, stored, expected)),
                    AfterRefusal::Stored(sequence) => {
                        let mut world = self.clone();
                        world.is_stored(engine, index, purpose, stored, Some(sequence));
                        world
                    }
                    AfterRefusal::Elsewhere => {
                        let mut world = self.clone();
                        world.is_stored(engine, index, purpose, stored, None);
                        world
                    }
                });
            }
            At::Spills(stored) => {
                let mut world = self.clone();
                world.store(Place::Lane, stored);
                if world.budget.lost_acks > 0 {
                    let mut unheard = world.clone();
                    unheard.budget.lost_acks -= 1;
                    worlds.push(unheard);
                }
                match attempt.lease {
                    Some(lease) => world.engines[engine][index].at = At::Deletes(lease),
                    None => world.settle_all(engine, index),
                }
                worlds.push(world);
            }
            At::Deletes(lease) => {
                let mut world = self.clone();
                world.delete_wait(lease);
                world.settle_all(engine, index);
                worlds.push(world);
            }
        }
    }

    /// What an attempt that runs may come to, other than an end.
    fn run(&self, engine: usize, index: usize, worlds: &mut Vec<Self>) {
        let attempt = &self.engines[engine][index];
        let (generation, attempts, _) = attempt.state;
        let to = |attempts: u32| state(progress((generation, attempts, attempt.stores)).stored());
        let expected = attempt.lease.unwrap_or(0);
        let go = |at: At, open: bool| {
            let mut world = self.clone();
            let attempt = &mut world.engines[engine][index];
            (attempt.at, attempt.open) = (at, open);
            world
        };
        if !attempt.leased {
            if self.budget.leases > 0 {
                let mut world = go(At::Publishes(Purpose::Lease, to(attempts + 1), 0), true);
                world.budget.leases -= 1;
                worlds.push(world);
            }
            // Without an attempt: there was no slot in time, or the circuit is open.
            worlds.push(go(At::Spills(to(attempts)), false));
        }
        // Failed: it waits, or where too many wait it goes to its lane.
        worlds.push(go(At::Publishes(Purpose::Outcome, to(attempts + 1), expected), false));
        worlds.push(go(At::Spills(to(attempts + 1)), false));
        if self.budget.skips > 0 {
            // On behind a step that was skipped or answered: a lease whose attempts begin anew.
            let mut world = go(At::Publishes(Purpose::Lease, to(0), expected), true);
            world.budget.skips -= 1;
            world.engines[engine][index].state.1 = 0;
            worlds.push(world);
        }
    }

    /// A wait is stored, by this attempt or (no sequence) a later one by another.
    fn is_stored(
        &mut self,
        engine: usize,
        index: usize,
        purpose: Purpose,
        stored: State,
        sequence: Option<u64>,
    ) {
        if purpose == Purpose::Outcome {
            return self.settle_all(engine, index);
        }
        let attempt = &mut self.engines[engine][index];
        attempt.leased = true;
        attempt.lease = sequence.or(attempt.lease);
        attempt.stores = joined(attempt.stores, stored.2);
        attempt.at = At::Runs;
        let (behind, kept): (Vec<_>, Vec<_>) =
            attempt.holds.iter().partition(|(held, _)| is_settled_by(*held, stored.2));
        attempt.holds = kept;
        self.settle(&behind);
    }

    fn settle_all(&mut self, engine: usize, index: usize) {
        let attempt = self.engines[engine].remove(index);
        self.settle(&attempt.holds);
    }

    fn settle(&mut self, holds: &[(u64, u64)]) {
        for (_, sequence) in holds {
            self.acknowledge(*sequence);
        }
    }

    /// The one of all worlds that differ in nothing that counts: sequences are numbered anew in their order, what is
    /// unordered is put in order, and what was acknowledged is held by nobody.
    fn in_order(mut self) -> Self {
        let mut used: Vec<u64> = self.messages.iter().map(|message| message.sequence).collect();
        used.extend(self.wait.map(|(sequence, _)| sequence));
        used.sort_unstable();
        // 0 is "nothing there"; what is gone is one past all that is there.
        let gone = used.len() as u64 + 1;
        let rank = |sequence: u64| match (sequence, used.binary_search(&sequence)) {
            (0, _) => 0,
            (_, Ok(place)) => place as u64 + 1,
            (_, Err(_)) => gone,
        };
        for message in &mut self.messages {
            message.sequence = rank(message.sequence);
        }
        self.wait = self.wait.map(|(sequence, state)| (rank(sequence), state));
        self.doomed = self.doomed.map(rank).filter(|doomed| *doomed != gone);
        for attempt in self.engines.iter_mut().flatten() {
            attempt.holds = attempt.holds.iter().map(|(stores, held)| (*stores, rank(*held))).collect();
            attempt.holds.retain(|(_, held)| *held != gone);
            attempt.holds.sort_unstable();
            attempt.lease = attempt.lease.map(rank);
            attempt.at = match attempt.at.clone() {
                At::Publishes(purpose, state, expected) => At::Publishes(purpose, state, rank(expected)),
                At::Reads(purpose, state, expected) => At::Reads(purpose, state, rank(expected)),
                At::Deletes(lease) => At::Deletes(rank(lease)),
                at @ (At::Asks | At::Runs | At::Spills(_)) => at,
            };
        }
        self.messages.sort();
        self.engines.iter_mut().for_each(|attempts| attempts.sort());
        self.engines.sort();
        self.last_sequence = gone;
        self
    }
}

/// Follows every order of steps from `begin`; how many worlds there were. Of those that it has seen it keeps a hash.
fn explore(begin: World) -> usize {
    let hasher = std::hash::RandomState::new();
    let mut seen = HashSet::from([hasher.hash_one(&begin)]);
    let mut open = vec![begin];
    while let Some(world) = open.pop() {
        for next in world.next() {
            let next = next.in_order();
            assert!(!next.is_lost(), "from {world:#?}\nthe task came to nothing: {next:#?}");
            if seen.insert(hasher.hash_one(&next)) {
                open.push(next);
            }
        }
        if seen.len() > 600_000 {
            return 0;
        }
    }
    seen.len()
}

fn world(place: Place, state: State, budget: Budget) -> World {
    World {
        messages: vec![Message { sequence: 1, place, state, delivered: false }],
        wait: None,
        doomed: None,
        last_sequence: 1,
        engines: [Vec::new(), Vec::new()],
        budget,
    }
}

#[test]
fn no_order_of_steps_of_two_engines_loses_a_task() {
    let none = Budget { redeliveries: 0, attempts: 2, leases: 1, fires: 0, kills: 0, lost_acks: 0, skips: 0 };
    for budget in [
        Budget { attempts: 4, leases: 2, fires: 2, ..none.clone() },
        Budget { redeliveries: 1, attempts: 3, fires: 1, kills: 1, ..none.clone() },
        Budget { redeliveries: 1, attempts: 3, fires: 1, skips: 1, ..none.clone() },
        Budget { redeliveries: 1, attempts: 2, fires: 1, lost_acks: 1, ..none.clone() },
        Budget { redeliveries: 2, attempts: 2, leases: 2, ..none.clone() },
    ] {
        let began = std::time::Instant::now();
        let worlds = explore(world(Place::Source, (0, 0, 0), budget.clone()));
        println!("{budget:?}: {worlds} {:?}", began.elapsed());
    }
}

#[test]
fn a_redriven_task_meets_what_is_left_of_its_earlier_generation() {
    let budget =
        Budget { redeliveries: 0, attempts: 2, leases: 1, fires: 0, kills: 0, lost_acks: 0, skips: 0 };
    let mut begin = world(Place::Lane, (1, 0, next_store(3)), budget);
    // The lease of the attempt that ended as the dead letter, not deleted yet; it has more stores behind it.
    begin.wait = Some((1, (0, 7, 9)));
    begin.messages[0].sequence = 2;
    begin.last_sequence = 2;
    begin.doomed = Some(1);
    explore(begin);
}
