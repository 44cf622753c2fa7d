//! Notices changes of pipeline files, and of what they refer to.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use crate::config::Loaded;
use crate::model::Reference;

/// What an editor does in one go arrives as several events.
const SETTLE: Duration = Duration::from_millis(200);

/// Watches until dropped.
pub(super) struct Watch {
    _watcher: RecommendedWatcher,
    changes: mpsc::Receiver<()>,
}

impl Watch {
    /// Watches the paths and the folders of the modules that the pipelines use.
    pub(super) fn start(paths: &[PathBuf], loaded: &Loaded) -> notify::Result<Self> {
        let (sender, changes) = mpsc::channel(1);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let touched = event.is_ok_and(|event| !matches!(event.kind, EventKind::Access(_)));
            if touched {
                // Full means that a change is known already.
                let _ = sender.try_send(());
            }
        })?;
        let mut folders: BTreeSet<PathBuf> = BTreeSet::new();
        let mut add = |path: &Path| {
            let folder = if path.is_dir() { Some(path) } else { path.parent() };
            folders.extend(folder.and_then(|folder| folder.canonicalize().ok()));
        };
        for path in paths {
            add(path);
        }
        let subscriptions = loaded.pipelines.iter().flat_map(|pipeline| &pipeline.subscriptions);
        for step in subscriptions.flat_map(|subscription| &subscription.steps) {
            if let Reference::File(path) = &step.reference {
                add(path);
            }
        }
        for folder in &folders {
            watcher.watch(folder, RecursiveMode::NonRecursive)?;
        }
        Ok(Self { _watcher: watcher, changes })
    }

    /// Waits for a change, and until it has settled.
    pub(super) async fn changed(&mut self) {
        if self.changes.recv().await.is_none() {
            return std::future::pending().await;
        }
        while tokio::time::timeout(SETTLE, self.changes.recv()).await.is_ok() {}
    }
}
