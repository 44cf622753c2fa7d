//! Loading the files again while an engine runs: they are read, checked and compiled beside it, and a new engine takes over
//! from it. Whatever is wrong, what ran before goes on.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use tokio::time::Instant;

use super::args::Global;
use super::run::{Signals, Told};
use super::steps::{Source, Strictness};
use super::watch::Watch;
use super::{Failure, assemble, output};
use crate::config::{self, Problem};
use crate::egress;
use crate::model::Timestamp;
use crate::nats::{Modules, Nats};
use crate::pipeline::Pipeline;
use crate::server::Current;
use crate::telemetry::metrics as names;
use crate::transform::Host;
use crate::worker::{Engine, Limits, Onlooker, StartError, Successor};

/// How long health and admin API speak of the engine before, while the new one is not ready.
const SHOWN_AFTER_MAX: Duration = Duration::from_secs(10);

/// What stays while the files change.
pub(crate) struct Files {
    pub(crate) paths: Vec<PathBuf>,
    pub(crate) nats: Nats,
    pub(crate) host: Arc<Host>,
    pub(crate) client: Arc<egress::Client>,
    pub(crate) limits: Limits,
    pub(crate) json: bool,
    pub(crate) process: ProcessFile,
}

/// Why the files were not loaded. It is said on standard error by then; this is for those who look elsewhere.
pub(crate) struct Refused(String);

impl Files {
    /// Reads, checks and compiles.
    pub(crate) async fn pipelines(&self, watch: Option<&mut Watch>) -> Result<Vec<Arc<Pipeline>>, Refused> {
        let loaded = config::load(&self.paths, self.nats.prefix());
        if let Some(watch) = watch {
            watch.follow(&loaded);
        }
        let source = Source::Open(Modules::look(&self.nats));
        let prepared = assemble::prepare(&self.host, loaded, &source, Strictness::Lenient).await;
        let problems = &prepared.loaded.problems;
        if problems.is_empty() {
            return Ok(prepared.pipelines(&self.nats, &self.client));
        }
        assemble::say(problems, self.json);
        Err(Refused(summary(problems)))
    }

    /// The first engine.
    pub(crate) async fn start(
        &self,
        pipelines: Vec<Arc<Pipeline>>,
        onlooker: Option<Onlooker>,
    ) -> Result<Arc<Engine>, StartError> {
        Engine::start(self.nats.clone(), pipelines, self.limits, onlooker).await
    }

    async fn successor(&self, engine: &Arc<Engine>, watch: Option<&mut Watch>) -> Result<Successor, Refused> {
        let pipelines = self.pipelines(watch).await?;
        engine.successor(pipelines).await.map_err(|error| {
            let text = output::chain(&error);
            output::say(format_args!("error: {text}"));
            Refused(text)
        })
    }
}

/// How many problems, and where the first is: texts of files are for those who may read them.
fn summary(problems: &[Problem]) -> String {
    let Some(first) = problems.first() else { return String::new() };
    let line = if first.line > 0 { format!(":{}", first.line) } else { String::new() };
    let place = format!("{} at {}{line}", first.code, first.file);
    match problems.len() {
        1 => place,
        count => format!("{place}, and {} more", count - 1),
    }
}

/// `hookmill.toml` as it was at start.
pub(crate) struct ProcessFile {
    path: PathBuf,
    text: Option<Vec<u8>>,
}

impl ProcessFile {
    /// As it is now.
    pub(crate) fn of(global: &Global) -> Self {
        let path = assemble::process_file(global);
        let text = std::fs::read(&path).ok();
        Self { path, text }
    }

    /// What belongs to the process is read once: says so if somebody hopes for more.
    fn warn_if_changed(&mut self) {
        let text = std::fs::read(&self.path).ok();
        if text != self.text {
            let file = self.path.display();
            tracing::warn!(%file, "this file has changed; it is read at start alone, its settings stay as they were");
            self.text = text;
        }
    }
}

/// What happens to the files, for whoever shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum News {
    /// The first engine is ready.
    Ready,
    /// They have changed, or somebody has asked for them.
    Changed,
    /// The engine with the new ones is ready.
    Loaded,
    /// What is new can't be used.
    Refused,
}

/// Is told of news as they happen.
type Listener<'l> = Box<dyn Fn(News) + 'l>;

/// An engine whose files may be loaded again.
pub(crate) struct Reloading<'l> {
    files: Files,
    watch: Option<Watch>,
    engine: Arc<Engine>,
    current: Current,
    /// Whether it was said that the engine is ready.
    announced: bool,
    /// Whether this is the first engine.
    first: bool,
    show_by: Instant,
    listener: Option<Listener<'l>>,
}

impl<'l> Reloading<'l> {
    pub(crate) fn new(files: Files, watch: Option<Watch>, engine: Arc<Engine>, current: Current) -> Self {
        for result in ["ok", "refused"] {
            counter!(names::CONFIG_RELOADS, "result" => result).increment(0);
        }
        current.set(Some(engine.clone()));
        let (announced, first, show_by, listener) = (false, true, Instant::now(), None);
        Self { files, watch, engine, current, announced, first, show_by, listener }
    }

    /// Tells `listener` from now on.
    pub(crate) fn tell(&mut self, listener: Listener<'l>) {
        self.listener = Some(listener);
    }

    fn say(&self, news: News) {
        if let Some(listener) = &self.listener {
            listener(news);
        }
    }

    /// The engine that runs.
    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Loads the files again whenever it is told to, until a signal ends it. `hangup` is called at each SIGHUP.
    pub(crate) async fn until_stopped(&mut self, signals: &mut Signals, hangup: impl Fn()) {
        loop {
            let shown = self.current.is(&self.engine);
            tokio::select! {
                told = signals.next_or_hangup() => match told {
                    Told::Stop => return,
                    Told::Hangup => {
                        tracing::info!("SIGHUP: the files are loaded again");
                        hangup();
                    }
                },
                () = changed(self.watch.as_mut()) => tracing::info!("the files have changed, they are loaded again"),
                () = self.engine.ready(), if !self.announced => {
                    self.announce();
                    continue;
                }
                () = tokio::time::sleep_until(self.show_by), if !shown => {
                    self.current.set(Some(self.engine.clone()));
                    continue;
                }
            }
            self.say(News::Changed);
            self.files.process.warn_if_changed();
            // What keeps it from becoming ready may last: it hears signals all the same.
            let successor = tokio::select! {
                successor = self.files.successor(&self.engine, self.watch.as_mut()) => successor,
                () = signals.next() => return,
            };
            match successor {
                Ok(successor) => {
                    self.engine = successor.take_over().await;
                    // Now, not when it is ready: by then the files may have been refused again.
                    self.current.notice(None);
                    self.announced = false;
                    self.show_by = Instant::now() + SHOWN_AFTER_MAX;
                }
                Err(why) => self.refused(&why),
            }
        }
    }

    fn announce(&mut self) {
        self.announced = true;
        self.current.set(Some(self.engine.clone()));
        if std::mem::take(&mut self.first) {
            tracing::info!("ready");
            return self.say(News::Ready);
        }
        counter!(names::CONFIG_RELOADS, "result" => "ok").increment(1);
        tracing::info!("ready with the files as they are now");
        self.say(News::Loaded);
    }

    fn refused(&self, Refused(why): &Refused) {
        counter!(names::CONFIG_RELOADS, "result" => "refused").increment(1);
        tracing::warn!(why, "the files were not loaded again, what was loaded before goes on");
        let now = Timestamp::now();
        self.current.notice(Some(format!(
            "the files were not loaded again at {now}, what was loaded before goes on: {why}"
        )));
        self.say(News::Refused);
    }
}

async fn changed(watch: Option<&mut Watch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

/// A watch, if one is wanted.
pub(crate) fn watch(paths: &[PathBuf]) -> Result<Watch, Failure> {
    Watch::start(paths).map_err(|error| Failure::failed(&error))
}
