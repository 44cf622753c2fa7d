//! The loop.

use std::collections::HashSet;
use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hookmill::telemetry::output;
use hookmill_tests::hostile::memory;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// Longest time that one input may take. Far beyond what the engine allows itself, for busy machines.
const INPUT_MAX: Duration = Duration::from_mins(2);
/// The most that this process may grow, in bytes.
const GROWTH_MAX: u64 = 3 << 30;
/// Inputs of the corpus at most; beyond it a new one takes the place of another.
const CORPUS_MAX: usize = 1024;

/// What input is thrown at.
pub trait Target {
    /// Its name, and that of its folder in the corpus.
    fn name(&self) -> &'static str;
    /// Inputs to begin with, besides those of the corpus.
    fn seeds(&self) -> Vec<Vec<u8>>;
    /// A new input, made of those that there are.
    fn next(&self, random: &mut StdRng, corpus: &[Vec<u8>]) -> Vec<u8>;
    /// Hands the input over. Tells what was said of it; the error is what is wrong with that.
    fn take(&self, input: &[u8]) -> Result<String, String>;
}

/// How long, and from where.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long.
    pub time: Duration,
    /// Where chance begins.
    pub seed: u64,
    /// Whether inputs that have found something new are written into the corpus.
    pub keep: bool,
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Report {
    /// Inputs.
    pub inputs: u64,
    /// Those that were taken.
    pub taken: u64,
    /// Different answers.
    pub answers: usize,
    /// The longest time that one input took.
    pub slowest: Duration,
    /// The most memory of this process above what it had at the beginning, in bytes.
    pub grown: u64,
}

/// What an accepted input says.
pub const TAKEN: &str = "taken";

/// Runs a target until its time is up. The error names the file that holds the input, and what is wrong.
pub fn run(target: &dyn Target, options: &Options) -> Result<Report, String> {
    let (name, seed) = (target.name(), options.seed);
    output::line(format_args!("{name}: {:?} from seed {seed}", options.time));
    let mut random = StdRng::seed_from_u64(seed);
    let mut corpus = kept(name);
    corpus.extend(target.seeds());
    let before = memory::of_process(own_pid()).map_or(0, |memory| memory.now);
    let watch = Watch::start(name);
    let mut report = Report { inputs: 0, taken: 0, answers: 0, slowest: Duration::ZERO, grown: 0 };
    let mut heard = HashSet::new();
    let begun = Instant::now();
    let mut first = corpus.clone().into_iter();
    while begun.elapsed() < options.time {
        let input = first.next().unwrap_or_else(|| target.next(&mut random, &corpus));
        let (said, took) = watch.during(&input, || target.take(&input))?;
        report.inputs += 1;
        report.slowest = report.slowest.max(took);
        report.taken += u64::from(said == TAKEN);
        if heard.insert(words(&said)) {
            if options.keep {
                keep(name, &input);
            }
            if corpus.len() < CORPUS_MAX {
                corpus.push(input);
            } else {
                let at = random.random_range(0..corpus.len());
                corpus[at] = input;
            }
        }
        if report.inputs.is_multiple_of(64) {
            let now = memory::of_process(own_pid()).map_or(0, |memory| memory.peak);
            report.grown = now.saturating_sub(before);
            if report.grown > GROWTH_MAX {
                return Err(format!("{name}: grown by {} bytes, {}", report.grown, watch.place()));
            }
        }
    }
    report.answers = heard.len();
    Ok(report)
}

fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap_or_default()
}

/// A text without what differs from input to input: digits, and what stands in quotation marks or backticks.
fn words(text: &str) -> String {
    let mut words = String::new();
    let mut quoted = None;
    for character in text.chars() {
        match quoted {
            Some(mark) if character == mark => quoted = None,
            Some(_) => {}
            None if matches!(character, '"' | '`') => quoted = Some(character),
            None if character.is_ascii_digit() => {}
            None => words.push(character),
        }
    }
    words
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name)
}

/// The kept corpus, in the order of its names.
fn kept(name: &str) -> Vec<Vec<u8>> {
    let Ok(entries) = fs::read_dir(folder(name)) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap_or_default()).collect()
}

fn keep(name: &str, input: &[u8]) {
    // FNV-1a, 64 bit: the same input has the same name.
    let hash = input.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let path = folder(name).join(format!("{hash:016x}"));
    if let Err(error) = fs::write(&path, input) {
        output::say(format_args!("{}: {error}", path.display()));
    }
}

/// Keeps the input that is under way in a file, for when the process ends by it, and ends the process when an input
/// takes too long.
struct Watch {
    name: &'static str,
    path: PathBuf,
    begun: Instant,
    /// Milliseconds from `begun` until the input under way was handed over, plus one; 0: none is.
    since: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

impl Watch {
    fn start(name: &'static str) -> Self {
        let folder = std::env::temp_dir().join("hookmill-fuzz");
        fs::create_dir_all(&folder).expect("a temporary folder can be made");
        let path = folder.join(format!("{name}-{}", std::process::id()));
        output::line(format_args!("{name}: the input under way is in {}", path.display()));
        let watch = Self { name, path, begun: Instant::now(), since: Arc::default(), over: Arc::default() };
        let (begun, since, over) = (watch.begun, Arc::clone(&watch.since), Arc::clone(&watch.over));
        let place = watch.place();
        thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(500));
                let at = since.load(Ordering::Relaxed);
                let limit = u64::try_from(INPUT_MAX.as_millis()).unwrap_or(u64::MAX);
                if at > 0 && millis(begun) > at + limit {
                    output::say(format_args!("an input takes longer than {INPUT_MAX:?}: {place}"));
                    std::process::exit(101);
                }
            }
        });
        watch
    }

    /// What a panic or a wrong answer is worth knowing about.
    fn during(
        &self,
        input: &[u8],
        take: impl FnOnce() -> Result<String, String>,
    ) -> Result<(String, Duration), String> {
        fs::write(&self.path, input).map_err(|error| format!("{}: {error}", self.path.display()))?;
        self.since.store(millis(self.begun) + 1, Ordering::Relaxed);
        let begun = Instant::now();
        let said = panic::catch_unwind(AssertUnwindSafe(take));
        self.since.store(0, Ordering::Relaxed);
        match said {
            Ok(Ok(said)) => Ok((said, begun.elapsed())),
            Ok(Err(wrong)) => Err(format!("{}: {wrong}; {}", self.name, self.place())),
            Err(_) => Err(format!("{}: it panics; {}", self.name, self.place())),
        }
    }

    fn place(&self) -> String {
        let (name, path) = (self.name, self.path.display());
        format!("the input is in {path}; try it with `cargo run -p hookmill-fuzz -- {name} --input {path}`")
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn millis(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn what_differs_from_input_to_input_is_left_out() {
        assert_eq!(words("at 0x1f: `a` is \"b\", 12 bytes"), "at xf:  is ,  bytes");
    }
}
