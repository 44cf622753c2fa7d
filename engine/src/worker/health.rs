//! Whether each part of the engine does its work, for `/readyz`.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::model::Name;

/// A part whose health is known.
#[derive(Clone, Copy)]
pub enum Part<'n> {
    /// A pipeline's source.
    Source(&'n Name),
    /// A pipeline's due tasks.
    Due(&'n Name),
    /// Whether anything can come from a pipeline's source, whoever keeps it from that.
    Durable(&'n Name),
    /// The same for its due tasks.
    DueDurable(&'n Name),
    /// A standing loop.
    Loop(&'n str),
}

impl<'n> Part<'n> {
    /// The name of its pipeline, or of the loop that it is.
    pub fn pipeline(self) -> &'n str {
        match self {
            Self::Source(name) | Self::Due(name) | Self::Durable(name) | Self::DueDurable(name) => {
                name.as_str()
            }
            Self::Loop(name) => name,
        }
    }

    fn label(self) -> String {
        match self {
            Self::Source(name) => format!("pipeline {name}: source"),
            Self::Due(name) => format!("pipeline {name}: retries"),
            Self::Durable(name) => format!("pipeline {name}: source stands still"),
            Self::Loop(name) => format!("part {name:?}"),
            Self::DueDurable(name) => format!("pipeline {name}: retries stand still"),
        }
    }
}

/// What is wrong, by part. A part that was never heard of is not ready.
#[derive(Default)]
pub struct Health {
    parts: Mutex<BTreeMap<String, Option<String>>>,
    changed: tokio::sync::Notify,
}

impl Health {
    /// A part that has to come up.
    pub fn expect(&self, part: Part<'_>) {
        self.set(part, Some("starting".to_owned()));
    }

    /// `None`: the part works.
    pub fn set(&self, part: Part<'_>, trouble: Option<String>) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let label = part.label();
        if parts.get(&label) != Some(&trouble) {
            parts.insert(label, trouble);
            self.changed.notify_waiters();
        }
    }

    /// What is wrong, a line each; none: ready.
    pub fn troubles(&self) -> Vec<String> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let troubled =
            parts.iter().filter_map(|(part, trouble)| Some(format!("{part}: {}", trouble.as_ref()?)));
        troubled.collect()
    }

    /// Waits until everything works.
    pub async fn ready(&self) {
        loop {
            let changed = self.changed.notified();
            if self.troubles().is_empty() {
                return;
            }
            changed.await;
        }
    }
}
