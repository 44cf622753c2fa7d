//! The books: for every event of the source stream and every subscription, how it has ended, and how long it was silent.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::{AckPolicy, pull};
use futures_util::StreamExt as _;

use super::faults::Happened;
use super::publisher::Acked;
use super::receivers::{Receivers, Script};
use super::silence::{self, Recorded, Request, Silence, Span, Stop};
use super::{many, people};
use crate::judge::{self, Letter};

/// What was noted while it ran.
pub(super) struct Noted {
    pub(super) acked: Vec<Acked>,
    pub(super) happened: Vec<Happened>,
    pub(super) stops: Vec<Stop>,
    /// When all had come to rest.
    pub(super) end: Duration,
}

impl Noted {
    /// All faults, in their order.
    pub(super) fn faults(&self) -> Vec<Span> {
        self.happened.iter().map(|happened| happened.span).collect()
    }

    /// Those in which an engine may not hear what people say.
    fn deaf(&self) -> Vec<Span> {
        let deaf = self.happened.iter().filter(|happened| happened.fault.deafens());
        deaf.map(|happened| happened.span).collect()
    }
}

/// One subscription's ends.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) events: usize,
    pub(super) delivered: usize,
    pub(super) dead: usize,
    /// Ends beyond the first of each event.
    pub(super) extra: usize,
    /// Numbers of events without any end.
    pub(super) missing: Vec<usize>,
    pub(super) requests: u64,
    /// None: its endpoint never works.
    pub(super) silence: Option<Silence>,
    /// Stops of its lane, how many of them hold long enough to be judged, and when requests came while one held.
    pub(super) stops: usize,
    pub(super) stops_judged: usize,
    pub(super) stops_broken: Vec<Duration>,
}

/// How the source stream stands against what the publisher was told.
#[derive(Clone, Debug, Default)]
pub(super) struct Source {
    pub(super) acked: usize,
    pub(super) messages: u64,
    pub(super) first_sequence: u64,
    pub(super) last_sequence: u64,
    /// Numbers of events that were acknowledged and don't lie where the ack said.
    pub(super) lost: Vec<usize>,
}

/// All ends.
pub(super) struct Ledger {
    pub(super) source: Source,
    pub(super) rows: Vec<Row>,
    /// The many lanes, each as a row.
    pub(super) many: Vec<Row>,
    /// Dead letters by reason.
    pub(super) reasons: Vec<(String, usize)>,
    /// Dead letters that say `gone`, and those among them whose event was not answered with 410.
    pub(super) gone: (usize, usize),
    /// How each fault was got over, in their order.
    pub(super) recoveries: Vec<Recovery>,
    /// Requests to the signed one whose signature does not fit.
    pub(super) forged: u64,
}

/// The part of the books that all rows share.
struct Shared<'s> {
    noted: &'s Noted,
    faults: Vec<Span>,
    deaf: Vec<Span>,
    /// Dead letters by subscription.
    letters: HashMap<&'s str, HashMap<usize, usize>>,
}

impl Ledger {
    /// Reads the source stream, the dead letters, and the receivers' books.
    pub(super) async fn read(jetstream: &Context, receivers: &Receivers, noted: &Noted) -> Self {
        let (mut source, numbers) = source(jetstream).await;
        source.acked = noted.acked.len();
        source.lost = lost(&noted.acked, &numbers);
        let letters = judge::dead_letters(jetstream).await;
        let reasons = judge::reasons(&letters);
        let reasons = reasons.into_iter().map(|(reason, count)| (reason.to_owned(), count)).collect();
        let shared = Shared {
            noted,
            faults: noted.faults(),
            deaf: noted.deaf(),
            letters: by_subscription(&letters, &numbers),
        };
        let (theirs, orders): (HashSet<usize>, HashSet<usize>) =
            numbers.values().copied().partition(|number| *number >= many::FIRST);
        let mut forged = 0;
        let mut rows = Vec::new();
        for script in Script::ALL {
            let book = receivers.book(script);
            forged += book.forged;
            let mut row = shared.row(script.name(), &people::lane(script), &orders, &book.answers);
            row.requests = book.requests;
            // It never works, so there is no silence to be judged.
            row.silence = row.silence.filter(|_| script != Script::Hopeless);
            rows.push(row);
        }
        let books = receivers.many().books();
        let many = books.iter().enumerate();
        let many = many.map(|(lane, book)| shared.row(&many::name(lane), &many::lane(lane), &theirs, book));
        Self {
            source,
            rows,
            many: many.collect(),
            reasons,
            gone: gone(&letters, &numbers, &receivers.book(Script::Gone).gone),
            recoveries: recoveries(noted, &receivers.book(Script::Healthy).answers),
            forged,
        }
    }
}

impl Shared<'_> {
    fn row(&self, name: &str, lane: &str, events: &HashSet<usize>, answers: &[Request]) -> Row {
        let mut taken: HashMap<usize, usize> = HashMap::new();
        for answer in answers.iter().filter(|answer| answer.taken) {
            *taken.entry(answer.number).or_default() += 1;
        }
        let none = HashMap::new();
        let [own, whole] = [name, "_"].map(|name| self.letters.get(name).unwrap_or(&none));
        let stops: Vec<&Stop> = self.noted.stops.iter().filter(|stop| stop.lane == lane).collect();
        let judged =
            stops.iter().filter(|stop| stop.from(&self.deaf).is_some_and(|from| from < stop.end_asked));
        let broken = stops.iter().flat_map(|stop| stop.broken_by(answers, &self.deaf));
        let mut row = Row {
            name: name.to_owned(),
            events: events.len(),
            delivered: 0,
            dead: 0,
            extra: 0,
            missing: Vec::new(),
            requests: answers.len() as u64,
            silence: Some(self.silence(events, answers, own, &stops)),
            stops: stops.len(),
            stops_judged: judged.count(),
            stops_broken: broken.map(|request| request.at).collect(),
        };
        for number in events.iter().copied() {
            let count = |ends: &HashMap<usize, usize>| ends.get(&number).copied().unwrap_or_default();
            // What ended for the pipeline as a whole has ended for each of its subscriptions.
            let (taken, dead) = (count(&taken), count(own) + count(whole));
            row.delivered += taken.min(1);
            row.dead += dead;
            match taken + dead {
                0 => row.missing.push(number),
                ends => row.extra += ends - 1,
            }
        }
        row
    }

    fn silence(
        &self,
        events: &HashSet<usize>,
        answers: &[Request],
        dead: &HashMap<usize, usize>,
        stops: &[&Stop],
    ) -> Silence {
        let acked = self.noted.acked.iter().filter(|acked| events.contains(&acked.number));
        let recorded = Recorded {
            published: &acked.map(|acked| (acked.number, acked.at)).collect(),
            requests: answers,
            dead: &dead.keys().copied().collect(),
            excused: &stops.iter().map(|stop| stop.span()).collect::<Vec<_>>(),
            end: self.noted.end,
        };
        silence::longest(&recorded, &self.faults)
    }
}

fn by_subscription<'l>(
    letters: &'l [Letter],
    numbers: &HashMap<u64, usize>,
) -> HashMap<&'l str, HashMap<usize, usize>> {
    let mut dead: HashMap<&str, HashMap<usize, usize>> = HashMap::new();
    for letter in letters {
        let number = numbers.get(&letter.sequence).copied().expect("it came from a message of the source");
        *dead.entry(letter.subscription.as_str()).or_default().entry(number).or_default() += 1;
    }
    dead
}

fn gone(letters: &[Letter], numbers: &HashMap<u64, usize>, answered: &HashSet<usize>) -> (usize, usize) {
    let gone = letters
        .iter()
        .filter(|letter| letter.reason == "gone")
        .filter_map(|letter| numbers.get(&letter.sequence));
    let strange = gone.clone().filter(|number| !answered.contains(number));
    (gone.count(), strange.count())
}

/// Acknowledged events that don't lie at their sequence.
fn lost(acked: &[Acked], numbers: &HashMap<u64, usize>) -> Vec<usize> {
    let lost = acked.iter().filter(|acked| numbers.get(&acked.sequence) != Some(&acked.number));
    let mut lost: Vec<usize> = lost.map(|acked| acked.number).collect();
    lost.sort_unstable();
    lost
}

/// How a fault was got over: from its end until the healthy one had taken something; none: it never has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Recovery {
    /// An order that was acknowledged after that.
    pub(super) flows: Option<Duration>,
    /// All orders that were acknowledged before.
    pub(super) caught_up: Option<Duration>,
}

fn recoveries(noted: &Noted, answers: &[Request]) -> Vec<Recovery> {
    let mut first: HashMap<usize, Duration> = HashMap::new();
    for answer in answers.iter().filter(|answer| answer.taken) {
        first.entry(answer.number).or_insert(answer.at);
    }
    let orders = noted.acked.iter().filter(|acked| acked.number < many::FIRST);
    let orders: Vec<(Duration, Option<Duration>)> =
        orders.map(|acked| (acked.at, first.get(&acked.number).copied())).collect();
    noted.happened.iter().map(|happened| recovery(&orders, happened.span.to)).collect()
}

/// `orders`: when each was acknowledged, and when it was first taken.
fn recovery(orders: &[(Duration, Option<Duration>)], end: Duration) -> Recovery {
    let after = orders.iter().filter(|(acked, _)| *acked > end).filter_map(|(_, taken)| *taken);
    let before = orders.iter().filter(|(acked, _)| *acked <= end).map(|(_, taken)| *taken);
    let last = before.collect::<Option<Vec<_>>>().map(|taken| taken.into_iter().max().unwrap_or(end));
    Recovery {
        flows: after.min().map(|taken| taken.saturating_sub(end)),
        caught_up: last.map(|last| last.saturating_sub(end)),
    }
}

/// The state of the source stream, and the number of each event by its sequence.
async fn source(jetstream: &Context) -> (Source, HashMap<u64, usize>) {
    let mut stream = jetstream.get_stream("HOOKMILL_EVENTS").await.expect("the stream is there");
    let state = stream.info().await.expect("is told").state.clone();
    let settings = pull::Config { ack_policy: AckPolicy::None, headers_only: true, ..Default::default() };
    let consumer = stream.create_consumer(settings).await.expect("a consumer");
    let count = usize::try_from(state.messages).expect("fits");
    let messages = consumer.messages().await.expect("messages").take(count);
    let number = |message: Result<async_nats::jetstream::Message, _>| async {
        let message = message.expect("a message");
        let headers = message.headers.as_ref().expect("an event has headers");
        let number = headers.get("Nats-Msg-Id").expect("an event has a number").as_str().parse();
        (message.info().expect("an ack subject").stream_sequence, number.expect("a number"))
    };
    let numbers = messages.then(number).collect().await;
    let source = Source {
        messages: state.messages,
        first_sequence: state.first_sequence,
        last_sequence: state.last_sequence,
        ..Source::default()
    };
    (source, numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_got_over_when_what_was_held_has_come_as_well() {
        let secs = Duration::from_secs;
        let orders =
            [(1, 2), (3, 14), (4, 4), (6, 7), (8, 9)].map(|(acked, taken)| (secs(acked), Some(secs(taken))));
        let recovered = Recovery { flows: Some(secs(2)), caught_up: Some(secs(9)) };
        assert_eq!(recovery(&orders, secs(5)), recovered);
        assert_eq!(recovery(&orders[..3], secs(5)), Recovery { flows: None, ..recovered });
        let never = [orders[0], (secs(3), None), orders[3]];
        assert_eq!(recovery(&never, secs(5)), Recovery { caught_up: None, ..recovered });
    }

    #[test]
    fn what_was_acknowledged_and_does_not_lie_there_is_lost() {
        let acked = |number, sequence| Acked { number, sequence, at: Duration::ZERO };
        let all = [acked(0, 1), acked(1, 2), acked(2, 3), acked(3, 4)];
        let numbers = HashMap::from([(1, 0), (2, 1), (3, 7)]);
        assert_eq!(lost(&all, &numbers), [2, 3]);
        assert_eq!(lost(&all[..2], &numbers), [0; 0]);
    }
}
