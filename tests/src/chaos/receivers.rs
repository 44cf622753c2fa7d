//! The receivers: each subscription has one, with its own way to behave, and its own count of what it has taken.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::endpoint::Notice;
use crate::judge::{source, subscription};
use crate::{Cable, Endpoint, Reply, Request, behaviour};

/// How long a delivery may take.
const TIMEOUT: &str = "timeout = \"2s\"";
/// Retries for all but the hopeless one: 12 attempts within about a minute.
const PATIENT: &str =
    r#"schedule = ["200ms", "500ms", "1s", "2s", "4s", "8s", "8s", "8s", "8s", "8s", "8s"]"#;
const IMPATIENT: &str = r#"schedule = ["200ms", "500ms"]"#;

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
    /// One in five is answered with 429 and Retry-After.
    Busy,
    /// Now and then 410: its lane is disabled, until somebody resumes it.
    Gone,
    /// Always 500.
    Hopeless,
    /// 200 to what is signed with the secret of a file that is away now and then.
    Signed,
}

impl Script {
    pub(super) const ALL: [Self; 9] = [
        Self::Healthy,
        Self::Slow,
        Self::Flaky,
        Self::Resetting,
        Self::Hanging,
        Self::Busy,
        Self::Gone,
        Self::Hopeless,
        Self::Signed,
    ];

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
        }
    }

    /// The answer to one request. The receiver has taken the event when `taken` is told.
    fn answer(self, rng: &mut StdRng, ends_410: bool, taken: Notice) -> Reply {
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
            Self::Busy if rng.random_bool(0.2) => {
                Reply::Headers(429, vec![("retry-after".to_owned(), "1".to_owned())])
            }
            Self::Gone if !ends_410 && rng.random_bool(0.0005) => Reply::Status(410),
            Self::Hopeless => Reply::Status(500),
            Self::Healthy
            | Self::Flaky
            | Self::Resetting
            | Self::Hanging
            | Self::Busy
            | Self::Gone
            | Self::Signed => Reply::Noting(taken, Box::new(Reply::Status(200))),
        }
    }
}

/// What one receiver has taken.
#[derive(Default)]
pub(super) struct Taken {
    /// How often each event was taken, by its number.
    pub(super) times: Vec<u16>,
    /// In all.
    pub(super) count: u64,
    /// The highest number.
    pub(super) newest: Option<usize>,
    requests: u64,
    /// Requests whose signature does not fit.
    forged: u64,
}

struct Receiver {
    script: Script,
    endpoint: Endpoint,
    cable: Option<Cable>,
    taken: Arc<Mutex<Taken>>,
}

impl Receiver {
    fn taken(&self) -> std::sync::MutexGuard<'_, Taken> {
        self.taken.lock().expect("no holder panics")
    }
}

/// All receivers.
pub(super) struct Receivers {
    receivers: Vec<Receiver>,
    ends_410: Arc<std::sync::atomic::AtomicBool>,
}

impl Receivers {
    pub(super) async fn start(seed: u64) -> Self {
        let ends_410 = Arc::<std::sync::atomic::AtomicBool>::default();
        let mut receivers = Vec::new();
        for (number, script) in (0..).zip(Script::ALL) {
            let taken = Arc::<Mutex<Taken>>::default();
            let rng = Mutex::new(StdRng::seed_from_u64(seed ^ (number << 32)));
            let (book, ends) = (Arc::clone(&taken), Arc::clone(&ends_410));
            let decide = move |request: &Request| {
                let ends = ends.load(std::sync::atomic::Ordering::Relaxed);
                let (number, taken) = (order_number(&request.body), Arc::clone(&book));
                book.lock().expect("no holder panics").requests += 1;
                if script == Script::Signed && request.verify(SECRET).is_err() {
                    book.lock().expect("no holder panics").forged += 1;
                    return Reply::Status(500);
                }
                let taken = Notice::new(move || taken.lock().expect("no holder panics").take(number));
                script.answer(&mut rng.lock().expect("no holder panics"), ends, taken)
            };
            let endpoint = Endpoint::start_for_flood(behaviour::custom(decide)).await;
            let cable = match script {
                Script::Resetting => Some(Cable::to(endpoint.address()).await),
                _ => None,
            };
            receivers.push(Receiver { script, endpoint, cable, taken });
        }
        Self { receivers, ends_410 }
    }

    /// The pipeline file that delivers to all of them.
    pub(super) fn pipeline(&self) -> String {
        let subscriptions = self.receivers.iter().map(|receiver| {
            let address = receiver.cable.as_ref().map_or(receiver.endpoint.address(), Cable::address);
            let retry = if receiver.script == Script::Hopeless { IMPATIENT } else { PATIENT };
            let signed = format!("{TIMEOUT}\nsign = [{{ file = \"{SECRET_FILE}\" }}]");
            let deliver = if receiver.script == Script::Signed { &signed } else { TIMEOUT };
            subscription(receiver.script.name(), &format!("http://{address}/hooks"), deliver, retry)
        });
        std::iter::once(source("")).chain(subscriptions).collect()
    }

    /// No more 410: what a disabled lane holds can come to its end.
    pub(super) fn end_410(&self) {
        self.ends_410.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    /// Resets connections as the scripts say, and keeps the endpoints' own logs short. Never ends.
    pub(super) async fn tend(&self) -> Infallible {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            for receiver in &self.receivers {
                receiver.endpoint.forget();
                if let Some(cable) = &receiver.cable {
                    cable.blink();
                }
            }
        }
    }

    /// How many deliveries a receiver has taken.
    pub(super) fn answered(&self, script: Script) -> u64 {
        self.of(script).taken().count
    }

    /// The highest number of an event that a receiver has taken.
    pub(super) fn newest(&self, script: Script) -> Option<usize> {
        self.of(script).taken().newest
    }

    /// How often a receiver has taken each event, and all its requests.
    pub(super) fn book(&self, script: Script) -> (Vec<u16>, u64) {
        let taken = self.of(script).taken();
        (taken.times.clone(), taken.requests)
    }

    /// Requests to the signed one whose signature does not fit.
    pub(super) fn forged(&self) -> u64 {
        self.of(Script::Signed).taken().forged
    }

    fn of(&self, script: Script) -> &Receiver {
        self.receivers.iter().find(|receiver| receiver.script == script).expect("there is one for each")
    }
}

impl Taken {
    fn take(&mut self, number: usize) {
        if self.times.len() <= number {
            self.times.resize(number + 1, 0);
        }
        self.times[number] = self.times[number].saturating_add(1);
        self.count += 1;
        self.newest = self.newest.max(Some(number));
    }
}

/// The number of the order in a body, without reading the rest of it.
fn order_number(body: &[u8]) -> usize {
    const BEFORE: &[u8] = b"\"order\":\"ord_";
    let at = body.windows(BEFORE.len()).position(|window| window == BEFORE).expect("an order has a number");
    let digits = &body[at + BEFORE.len()..];
    let end = digits.iter().position(|byte| !byte.is_ascii_digit()).expect("it ends");
    let text = std::str::from_utf8(&digits[..end]).expect("digits");
    text.parse().expect("a number")
}
