//! The receivers: each subscription has one, with its own way to behave, and its own count of what it has taken.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::Settings;
use super::clock::Clock;
use super::many::Many;
use super::silence;
use crate::endpoint::Notice;
use crate::judge::{source, subscription};
use crate::{Cable, Endpoint, Reply, Request, behaviour, events};

/// How long a delivery may take.
pub(super) const TIMEOUT: &str = "timeout = \"2s\"";
/// Retries for all but the hopeless one: 12 attempts within about a minute; and how soon its circuit finds out that an endpoint
/// is back.
pub(super) const PATIENT: &str = r#"schedule = ["200ms", "500ms", "1s", "2s", "4s", "8s", "8s", "8s", "8s", "8s", "8s"]
[subscription.circuit]
probe_max = "4s""#;
/// The longest wait for the probe of an endpoint that is back, and some time for the probe itself.
pub(super) const PROBED_WITHIN: Duration = Duration::from_secs(4 + 2);
const IMPATIENT: &str = r#"schedule = ["200ms", "500ms"]"#;

/// What one engine sends to the rated one: alone it is too slow for what is published, and its lane fills.
const RATE: &str = "rate = \"80/s\"";

/// The secret of the signed one.
pub(super) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// Its file, from the folder of the pipeline on.
pub(super) const SECRET_FILE: &str = "secrets/signed";

/// How a receiver behaves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Script {
    /// 200.
    Healthy,
    /// 200 after 50 to 400 ms.
    Slow,
    /// Three in ten are answered with 500 or 503.
    Flaky,
    /// All connections are reset twice a second, one answer in ten breaks off.
    Resetting,
    /// One in fifty is never answered.
    Hanging,
    /// 429 and Retry-After for what is more than it takes in a second.
    Busy,
    /// 200 for a while, then 410 to everything until its lane is disabled; then it is mended, and somebody resumes the lane.
    Gone,
    /// Always 500.
    Hopeless,
    /// 200 to what is signed with the secret of a file that is away now and then.
    Signed,
    /// 200, at no more than [`RATE`] from each engine.
    Rated,
    /// 200 for a while, then 503 to everything for longer than its circuit needs to open.
    Away,
}

impl Script {
    pub(super) const ALL: [Self; 11] = [
        Self::Healthy,
        Self::Slow,
        Self::Flaky,
        Self::Resetting,
        Self::Hanging,
        Self::Busy,
        Self::Gone,
        Self::Hopeless,
        Self::Signed,
        Self::Rated,
        Self::Away,
    ];

    /// The one that [`Settings::stall`] stalls.
    pub(super) const STALLED: Self = Self::Signed;

    /// The subscription's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Slow => "slow",
            Self::Flaky => "flaky",
            Self::Resetting => "resetting",
            Self::Hanging => "hanging",
            Self::Busy => "busy",
            Self::Gone => "gone",
            Self::Hopeless => "hopeless",
            Self::Signed => "signed",
            Self::Rated => "rated",
            Self::Away => "away",
        }
    }

    /// The answer to one request. The receiver has taken the event when `taken` is told.
    fn answer(self, rng: &mut StdRng, switches: &Switches, taken: Notice) -> Reply {
        match self {
            Self::Slow => {
                let time = Duration::from_millis(rng.random_range(50..400));
                Reply::After(time, Box::new(Reply::Noting(taken, Box::new(Reply::Status(200)))))
            }
            Self::Flaky if rng.random_bool(0.3) => {
                Reply::Status(if rng.random_bool(0.5) { 500 } else { 503 })
            }
            Self::Resetting if rng.random_bool(0.1) => Reply::CloseMidResponse,
            Self::Hanging if rng.random_bool(0.02) => Reply::Hang,
            Self::Busy if !switches.busy.has_room() => {
                Reply::Headers(429, vec![("retry-after".to_owned(), "1".to_owned())])
            }
            Self::Gone if switches.gone.load(Ordering::Relaxed) => Reply::Status(410),
            Self::Away if switches.away.load(Ordering::Relaxed) => Reply::Status(503),
            Self::Hopeless => Reply::Status(500),
            Self::Healthy
            | Self::Flaky
            | Self::Resetting
            | Self::Hanging
            | Self::Busy
            | Self::Gone
            | Self::Signed
            | Self::Rated
            | Self::Away => Reply::Noting(taken, Box::new(Reply::Status(200))),
        }
    }
}

/// Which endpoints answer as if they were broken. Set by whoever sees to them.
#[derive(Default, Debug)]
pub(super) struct Switches {
    pub(super) gone: AtomicBool,
    pub(super) away: AtomicBool,
    busy: Busy,
}

/// Requests that the busy endpoint takes in a second; the others are told to come again a second later. Four times what is
/// published: it is met only by those that work off a backlog.
const BUSY_MAX: u32 = 400;

/// What the busy endpoint has taken in the second that began then.
#[derive(Debug)]
struct Busy(Mutex<(Instant, u32)>);

impl Default for Busy {
    fn default() -> Self {
        Self(Mutex::new((Instant::now(), 0)))
    }
}

impl Busy {
    fn has_room(&self) -> bool {
        let mut taken = self.0.lock().expect("nobody panics");
        if taken.0.elapsed() >= Duration::from_secs(1) {
            *taken = (Instant::now(), 0);
        }
        taken.1 += 1;
        taken.1 <= BUSY_MAX
    }
}

/// What one receiver has seen.
#[derive(Clone, Default)]
pub(super) struct Book {
    /// Requests that it has answered, or not taken.
    pub(super) answers: Vec<silence::Request>,
    /// All requests.
    pub(super) requests: u64,
    /// Deliveries that it has taken.
    pub(super) count: u64,
    /// Events that it has answered with 410.
    pub(super) gone: HashSet<usize>,
    /// The highest number that it has taken.
    newest: Option<usize>,
    /// Requests whose signature does not fit.
    pub(super) forged: u64,
}

struct Receiver {
    script: Script,
    endpoint: Endpoint,
    cable: Option<Cable>,
    book: Arc<Mutex<Book>>,
}

impl Receiver {
    async fn start(script: Script, rng: StdRng, clock: Clock, switches: &Arc<Switches>) -> Self {
        let book = Arc::<Mutex<Book>>::default();
        let desk = Desk {
            script,
            clock,
            rng: Mutex::new(rng),
            book: Arc::clone(&book),
            switches: Arc::clone(switches),
        };
        let endpoint =
            Endpoint::start_for_flood(behaviour::custom(move |request| desk.answer(request))).await;
        let cable = match script {
            Script::Resetting => Some(Cable::to(endpoint.address()).await),
            _ => None,
        };
        Self { script, endpoint, cable, book }
    }
}

/// Where a receiver's answers are given and noted.
struct Desk {
    script: Script,
    clock: Clock,
    rng: Mutex<StdRng>,
    book: Arc<Mutex<Book>>,
    switches: Arc<Switches>,
}

impl Desk {
    fn answer(&self, request: &Request) -> Reply {
        let number = order_number(&request.body);
        open(&self.book).requests += 1;
        let reply = if self.script == Script::Signed && request.verify(SECRET).is_err() {
            open(&self.book).forged += 1;
            Reply::Status(500)
        } else {
            let (book, clock) = (Arc::clone(&self.book), self.clock);
            let taken = Notice::new(move || open(&book).note(clock, number, true));
            self.script.answer(&mut self.rng.lock().expect("no holder panics"), &self.switches, taken)
        };
        if !matches!(reply, Reply::Noting(..) | Reply::After(..)) {
            open(&self.book).note(self.clock, number, false);
        }
        if matches!(reply, Reply::Status(410)) {
            open(&self.book).gone.insert(number);
        }
        reply
    }
}

fn open(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().expect("no holder panics")
}

/// All receivers.
pub(super) struct Receivers {
    all: Vec<Receiver>,
    many: Many,
    switches: Arc<Switches>,
    /// The subscription that is to stand still.
    stalled: Option<Script>,
}

impl Receivers {
    pub(super) async fn start(settings: &Settings, clock: Clock) -> Self {
        let switches = Arc::<Switches>::default();
        let mut all = Vec::new();
        for (number, script) in (0..).zip(Script::ALL) {
            let rng = StdRng::seed_from_u64(settings.seed ^ (number << 32));
            all.push(Receiver::start(script, rng, clock, &switches).await);
        }
        let many = Many::start(settings.lanes, clock).await;
        Self { all, many, switches, stalled: settings.stall.map(|_| Script::STALLED) }
    }

    /// The pipeline file that delivers to all of them.
    pub(super) fn pipeline(&self) -> String {
        let subscriptions = self.all.iter().map(|receiver| {
            let address = receiver.cable.as_ref().map_or(receiver.endpoint.address(), Cable::address);
            let retry = if receiver.script == Script::Hopeless { IMPATIENT } else { PATIENT };
            let mut deliver = match receiver.script {
                Script::Signed => format!("{TIMEOUT}\nsign = [{{ file = \"{SECRET_FILE}\" }}]"),
                Script::Rated => format!("{TIMEOUT}\n{RATE}"),
                _ => TIMEOUT.to_owned(),
            };
            if self.stalled == Some(receiver.script) {
                deliver += "\nconcurrency = 1";
            }
            subscription(receiver.script.name(), &format!("http://{address}/hooks"), &deliver, retry)
        });
        let source = source(&format!("subjects = [\"{}\"]", events::ORDER_SUBJECT));
        std::iter::once(source).chain(subscriptions).collect()
    }

    /// The receiver of the many lanes.
    pub(super) fn many(&self) -> &Many {
        &self.many
    }

    /// What breaks and mends some of them.
    pub(super) fn switches(&self) -> Arc<Switches> {
        Arc::clone(&self.switches)
    }

    /// Resets connections as the scripts say, and keeps the endpoints' own logs short. Never ends.
    pub(super) async fn tend(&self) -> Infallible {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            for receiver in &self.all {
                receiver.endpoint.forget();
                if let Some(cable) = &receiver.cable {
                    cable.blink();
                }
            }
            self.many.forget();
        }
    }

    /// How many deliveries a receiver has taken.
    pub(super) fn answered(&self, script: Script) -> u64 {
        open(&self.of(script).book).count
    }

    /// The highest number of an event that a receiver has taken.
    pub(super) fn newest(&self, script: Script) -> Option<usize> {
        open(&self.of(script).book).newest
    }

    /// All that a receiver has seen.
    pub(super) fn book(&self, script: Script) -> Book {
        open(&self.of(script).book).clone()
    }

    fn of(&self, script: Script) -> &Receiver {
        self.all.iter().find(|receiver| receiver.script == script).expect("there is one for each")
    }
}

impl Book {
    fn note(&mut self, clock: Clock, number: usize, taken: bool) {
        // Under the lock, so that they stand in the order of their times.
        self.answers.push(silence::Request { at: clock.now(), number, taken });
        if taken {
            self.count += 1;
            self.newest = self.newest.max(Some(number));
        }
    }
}

/// The number of the order in a body, without reading the rest of it.
pub(super) fn order_number(body: &[u8]) -> usize {
    const BEFORE: &[u8] = b"\"order\":\"ord_";
    let at = body.windows(BEFORE.len()).position(|window| window == BEFORE).expect("an order has a number");
    let digits = &body[at + BEFORE.len()..];
    let end = digits.iter().position(|byte| !byte.is_ascii_digit()).expect("it ends");
    let text = std::str::from_utf8(&digits[..end]).expect("digits");
    text.parse().expect("a number")
}
