//! Whether events that pipelines publish come back to them: loops over the subjects that they publish to and the subjects that
//! their sources take. Pure.
//!
//! What lies between is taken as it is written: a step may make any type of an event, a `match` may let any event through. A
//! receiver of a webhook that publishes again is not seen, nor is a pipeline of another process.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;

use super::{Name, SubjectTemplate, TypePatterns};

/// Loops that are told of at once.
const LOOPS_MAX: usize = 32;

/// A subscription that publishes.
#[derive(Clone, Copy, Debug)]
pub struct Publishing<'p> {
    /// Its pipeline.
    pub pipeline: &'p Name,
    /// Its name.
    pub subscription: &'p Name,
    /// Where it publishes to.
    pub subject: &'p SubjectTemplate,
    /// The types that it wants.
    pub types: &'p TypePatterns,
    /// Whether it has steps, which may give an event any type.
    pub has_steps: bool,
    /// Subjects that the source of its pipeline takes; none: not known.
    pub takes: &'p [String],
}

/// How sure it is that an event goes a way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Sure {
    /// It depends on the event.
    Maybe,
    /// Each event that comes there.
    Always,
}

/// Subscriptions that each publish what the next one may take, and the last one what the first one may.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Loop {
    /// Places of the subscriptions in what was looked at, the first one first.
    pub members: Vec<usize>,
    /// Whether every event that is in it goes round; else it depends on the event's attributes.
    pub is_sure: bool,
}

impl Loop {
    /// Each step of it, for people.
    pub fn describe(&self, all: &[Publishing<'_>]) -> String {
        let mut text = String::new();
        for (place, member) in self.members.iter().enumerate() {
            let (from, to) = (all[*member], all[self.members[(place + 1) % self.members.len()]]);
            let subject = from.subject;
            let (pattern, sure) = taken(subject, to.takes).unwrap_or(("", Sure::Maybe));
            let takes = if sure == Sure::Always { "takes" } else { "may take" };
            let and = if place > 0 { "; " } else { "" };
            // A text takes all that is written to it.
            let _ = write!(
                text,
                "{and}{}/{} publishes to \"{subject}\", which the source of {} {takes} by \"{pattern}\"",
                from.pipeline, from.subscription, to.pipeline
            );
        }
        text
    }
}

/// The pattern by which a source takes what is published to a subject, a sure one first.
fn taken<'t>(subject: &SubjectTemplate, takes: &'t [String]) -> Option<(&'t str, Sure)> {
    let sure = takes.iter().find(|pattern| subject.always_matches(pattern));
    let sure = sure.map(|pattern| (pattern.as_str(), Sure::Always));
    let maybe = || takes.iter().find(|pattern| subject.can_match(pattern));
    sure.or_else(|| maybe().map(|pattern| (pattern.as_str(), Sure::Maybe)))
}

/// All loops, each told of once and at most 32 of them: those that are sure, then those that may be.
pub fn find(all: &[Publishing<'_>]) -> Vec<Loop> {
    let mut graph = Graph::new(all);
    let sure = graph.loops(Sure::Always);
    let maybe = graph.loops(Sure::Maybe);
    let mut seen = BTreeSet::new();
    let mut loops: Vec<Loop> = sure.into_iter().chain(maybe.into_iter().filter(|one| !one.is_sure)).collect();
    loops.retain(|one| seen.insert(one.members.iter().copied().collect::<BTreeSet<_>>()));
    loops.truncate(LOOPS_MAX);
    loops
}

struct Graph<'g> {
    all: &'g [Publishing<'g>],
    /// The first member of each pipeline, by its name: all of them have the same source.
    sources: HashMap<&'g str, usize>,
    /// How what a member publishes comes to a source; asked once for each pair.
    reached: HashMap<(usize, usize), Option<Sure>>,
}

/// A member whose ways on are being looked at.
struct Open {
    member: usize,
    /// The way to it was so sure.
    sure: Sure,
    next: usize,
}

impl<'g> Graph<'g> {
    fn new(all: &'g [Publishing<'g>]) -> Self {
        let mut sources = HashMap::new();
        for (place, one) in all.iter().enumerate() {
            sources.entry(one.pipeline.as_str()).or_insert(place);
        }
        Self { all, sources, reached: HashMap::new() }
    }

    /// Whether what `from` publishes comes to `to`.
    fn way(&mut self, at: usize, to: usize) -> Option<Sure> {
        let (from, to) = (&self.all[at], &self.all[to]);
        let types = if from.has_steps || to.types.include(from.types) {
            Sure::Always
        } else if to.types.meet(from.types) {
            Sure::Maybe
        } else {
            return None;
        };
        let source = self.sources.get(to.pipeline.as_str()).copied().unwrap_or_default();
        let reached = self
            .reached
            .entry((at, source))
            .or_insert_with(|| taken(from.subject, to.takes).map(|(_, sure)| sure));
        reached.map(|reached| reached.min(types))
    }

    /// Loops of ways that are at least so sure: a walk in depth, in which each way back to a member that is still open closes one.
    fn loops(&mut self, least: Sure) -> Vec<Loop> {
        let mut found = Vec::new();
        // Members whose ways have all been gone.
        let mut done = vec![false; self.all.len()];
        for root in 0..self.all.len() {
            if done[root] {
                continue;
            }
            let mut open = vec![Open { member: root, sure: Sure::Always, next: 0 }];
            while let Some(top) = open.last_mut() {
                let (from, to) = (top.member, top.next);
                if to == self.all.len() {
                    done[from] = true;
                    open.pop();
                    continue;
                }
                top.next += 1;
                let Some(sure) = self.way(from, to).filter(|sure| *sure >= least && !done[to]) else {
                    continue;
                };
                if let Some(begin) = open.iter().position(|one| one.member == to) {
                    let round = &open[begin..];
                    let is_sure =
                        sure == Sure::Always && round[1..].iter().all(|one| one.sure == Sure::Always);
                    found.push(Loop { members: round.iter().map(|one| one.member).collect(), is_sure });
                    if found.len() == LOOPS_MAX {
                        return found;
                    }
                } else {
                    open.push(Open { member: to, sure, next: 0 });
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `pipeline/subscription takes -> subject`, with `!` behind the subscription where it has steps, and its types behind the subject.
    fn loops(lines: &[&str]) -> Vec<String> {
        struct Line {
            pipeline: Name,
            subscription: Name,
            subject: SubjectTemplate,
            types: TypePatterns,
            has_steps: bool,
            takes: Vec<String>,
        }
        let read = |line: &&str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (pipeline, subscription) = words[0].split_once('/').unwrap();
            Line {
                pipeline: Name::new(pipeline).unwrap(),
                subscription: Name::new(subscription.trim_end_matches('!')).unwrap(),
                has_steps: subscription.ends_with('!'),
                takes: words[1].split(',').filter(|pattern| *pattern != "?").map(str::to_owned).collect(),
                subject: SubjectTemplate::parse(words[3]).unwrap(),
                types: TypePatterns::new(&words[4..]).unwrap(),
            }
        };
        let lines: Vec<Line> = lines.iter().map(read).collect();
        let all: Vec<Publishing<'_>> = lines
            .iter()
            .map(|line| Publishing {
                pipeline: &line.pipeline,
                subscription: &line.subscription,
                subject: &line.subject,
                types: &line.types,
                has_steps: line.has_steps,
                takes: &line.takes,
            })
            .collect();
        let short = |one: Loop| {
            let names = one
                .members
                .iter()
                .map(|place| format!("{}/{}", all[*place].pipeline, all[*place].subscription));
            let names: Vec<String> = names.collect();
            format!("{}{}", if one.is_sure { "" } else { "? " }, names.join(" "))
        };
        find(&all).into_iter().map(short).collect()
    }

    #[test]
    fn what_comes_back_is_a_loop_however_long_the_way_is() {
        assert_eq!(loops(&["a/x a.> -> a.copy"]), ["a/x"]);
        assert_eq!(loops(&["a/x a.> -> b.copy", "b/y b.> -> c.copy"]), [""; 0]);
        assert_eq!(loops(&["a/x a.> -> b.1", "b/y b.* -> a.1"]), ["a/x b/y"]);
        assert_eq!(loops(&["a/x a.> -> b.1", "b/y b.> -> c.1", "c/z c.> -> a.1"]), ["a/x b/y c/z"]);
        // Another subscription of the same pipeline is on the way.
        assert_eq!(loops(&["a/x a.> -> b.1", "b/no b.> -> out.1", "b/y b.> -> a.1"]), ["a/x b/y"]);
        assert_eq!(loops(&["a/x a.> -> a.1", "b/y b.> -> b.1"]), ["a/x", "b/y"]);
        assert_eq!(loops(&["a/x ? -> a.1"]), [""; 0], "what a stream holds is not known");
    }

    #[test]
    fn what_depends_on_the_event_is_only_a_loop_that_may_be() {
        assert_eq!(loops(&["a/x a.> -> {type}"]), ["? a/x"]);
        assert_eq!(loops(&["a/x a.> -> a.{type}"]), ["a/x"]);
        assert_eq!(loops(&["a/x a.> -> b.{id}", "b/y b.* -> a.1"]), ["? a/x b/y"], "an id may have dots");
        assert_eq!(loops(&["a/x a.> -> b.{id}", "b/y b.*.> -> a.1"]), ["? a/x b/y"]);
        // One of two ways is sure, and told of alone.
        assert_eq!(loops(&["a/x *.*,a.> -> a.1"]), ["a/x"]);
    }

    #[test]
    fn a_type_that_nobody_changes_and_nobody_wants_goes_no_further() {
        assert_eq!(loops(&["a/x a.> -> b.1 order.*", "b/y b.> -> a.1 invoice.*"]), [""; 0]);
        assert_eq!(loops(&["a/x! a.> -> b.1 order.*", "b/y b.> -> a.1 invoice.*"]), [""; 0]);
        assert_eq!(loops(&["a/x! a.> -> b.1 order.*", "b/y! b.> -> a.1 invoice.*"]), ["a/x b/y"]);
        assert_eq!(loops(&["a/x a.> -> b.1 order.*", "b/y b.> -> a.1 order.new"]), ["? a/x b/y"]);
        assert_eq!(loops(&["a/x a.> -> b.1 order.new", "b/y b.> -> a.1 order.new"]), ["a/x b/y"]);
        assert_eq!(loops(&["a/x a.> -> b.1", "b/y b.> -> a.1"]), ["a/x b/y"]);
    }

    #[test]
    fn very_many_subscriptions_are_looked_at_in_a_moment() {
        let all: Vec<String> =
            (0..500).map(|number| format!("p{number}/x s{number}.> -> s{}.1", number + 1)).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        assert_eq!(loops(&all), [""; 0]);
        let round: Vec<&str> = all.iter().copied().chain(["p500/x s500.> -> s0.1"]).collect();
        assert_eq!(loops(&round).len(), 1);
        let dense: Vec<String> = (0..200).map(|number| format!("p{number}/x a.> -> a.1")).collect();
        assert_eq!(loops(&dense.iter().map(String::as_str).collect::<Vec<_>>()).len(), LOOPS_MAX);
    }
}
