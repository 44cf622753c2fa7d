//! Notices changes of pipeline files, and of what they refer to, for `dev` and `run --watch`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use crate::config::Loaded;
use crate::model::Reference;

/// What an editor does in one go arrives as several events.
const SETTLE: Duration = Duration::from_millis(200);
/// Where something changes all the time, the files are loaded all the same.
const SETTLE_MAX: Duration = Duration::from_secs(2);

/// Watches until dropped.
pub(crate) struct Watch {
    watcher: RecommendedWatcher,
    changes: mpsc::Receiver<()>,
    /// Something has changed that nobody was told yet.
    changing: bool,
    watched: BTreeSet<PathBuf>,
}

impl Watch {
    /// Watches the paths: to be begun before they are read, so that no change is missed.
    pub(crate) fn start(paths: &[PathBuf]) -> notify::Result<Self> {
        let (sender, changes) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let touched = event.is_ok_and(|event| !matches!(event.kind, EventKind::Access(_)));
            if touched {
                // Full means that a change is known already.
                let _ = sender.try_send(());
            }
        })?;
        let mut watch = Self { watcher, changes, changing: false, watched: BTreeSet::new() };
        for path in paths {
            watch.add(path)?;
        }
        Ok(watch)
    }

    /// Watches what the pipelines refer to as well: modules that are files, and schemas. What can't be watched is said.
    pub(crate) fn follow(&mut self, loaded: &Loaded) {
        for path in loaded.pipelines.iter().flat_map(referred) {
            if let Err(error) = self.add(&path) {
                tracing::warn!(path = %path.display(), %error, "changes of this file are not noticed");
            }
        }
    }

    /// Watches the folder of a file, or the folder itself: a file that is replaced is another one.
    fn add(&mut self, path: &Path) -> notify::Result<()> {
        let folder = if path.is_dir() { Some(path) } else { path.parent() };
        // The folder of a bare name is written as an empty path.
        let folder = folder.map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
        let Some(folder) = folder.and_then(|folder| folder.canonicalize().ok()) else {
            return Err(notify::Error::path_not_found());
        };
        if self.watched.insert(folder.clone()) {
            self.watcher.watch(&folder, RecursiveMode::NonRecursive)?;
        }
        Ok(())
    }

    /// Waits for a change, and until it has settled. May be given up at any point: the change is told next time.
    pub(crate) async fn changed(&mut self) {
        if !self.changing && self.changes.recv().await.is_none() {
            return std::future::pending().await;
        }
        self.changing = true;
        let settled = async { while tokio::time::timeout(SETTLE, self.changes.recv()).await.is_ok() {} };
        let _ = tokio::time::timeout(SETTLE_MAX, settled).await;
        self.changing = false;
    }
}

/// The files that a pipeline's file names.
fn referred(pipeline: &crate::config::Pipeline) -> Vec<PathBuf> {
    let folder = pipeline.file.parent().unwrap_or(Path::new(""));
    let schemas = pipeline.validate.rules.iter().map(|rule| folder.join(&rule.label));
    let steps = pipeline.subscriptions.iter().flat_map(|subscription| &subscription.steps);
    let modules = steps.filter_map(|step| match &step.reference {
        Reference::File(path) => Some(path.clone()),
        _ => None,
    });
    schemas.chain(modules).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_is_told_though_whoever_waited_for_it_gave_up_while_it_settled() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut watch = Watch::start(&[folder.path().to_owned()]).expect("it is watched");
        std::fs::write(folder.path().join("p.toml"), "x = 1").expect("it is written");
        while !watch.changing {
            // Given up each time before anything can have settled.
            let _ = tokio::time::timeout(SETTLE / 4, watch.changed()).await;
        }
        tokio::time::timeout(SETTLE_MAX * 2, watch.changed()).await.expect("it is told");
    }
}
