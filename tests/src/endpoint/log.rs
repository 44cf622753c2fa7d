//! What an endpoint has seen, with counts that are kept so that looking at them is cheap.

use std::collections::{HashMap, HashSet};

use super::Request;

/// All requests of an endpoint.
#[derive(Debug, Default)]
pub struct Log {
    requests: Vec<Request>,
    attempts: HashMap<String, usize>,
    delivered: HashSet<String>,
    // Position of the first request that is still there.
    first: usize,
}

impl Log {
    /// How many requests have come.
    pub fn received(&self) -> usize {
        self.requests.len()
    }

    /// How many different `webhook-id`s have come.
    pub fn distinct_ids(&self) -> usize {
        self.attempts.len()
    }

    /// How many different `webhook-id`s were answered with 2xx.
    pub fn delivered_ids(&self) -> usize {
        self.delivered.len()
    }

    /// The `webhook-id`s that were answered with 2xx.
    pub fn delivered(&self) -> &HashSet<String> {
        &self.delivered
    }

    /// True if this `webhook-id` was answered with 2xx.
    pub fn is_delivered(&self, webhook_id: &str) -> bool {
        self.delivered.contains(webhook_id)
    }

    /// How often this `webhook-id` has come.
    pub fn attempts(&self, webhook_id: &str) -> usize {
        self.attempts.get(webhook_id).copied().unwrap_or_default()
    }

    /// How many requests repeat a `webhook-id`.
    pub fn repeats(&self) -> usize {
        self.received() - self.distinct_ids()
    }

    /// All requests, in the order in which they came.
    pub fn requests(&self) -> &[Request] {
        &self.requests
    }

    /// The counts in a sentence, for messages.
    pub fn summary(&self) -> String {
        format!(
            "{} requests, {} ids, {} of them answered with 2xx",
            self.received(),
            self.distinct_ids(),
            self.delivered_ids()
        )
    }

    pub(super) fn forget(&mut self) {
        *self = Self { first: self.first + self.requests.len(), ..Self::default() };
    }

    pub(super) fn number(&mut self, request: &mut Request) {
        request.position = self.first + self.requests.len();
        let attempts = self.attempts.entry(request.webhook_id.clone()).or_default();
        *attempts += 1;
        request.attempt = *attempts;
    }

    pub(super) fn push(&mut self, request: Request) {
        self.requests.push(request);
    }

    pub(super) fn answered(&mut self, position: usize, status: u16) {
        // Gone if the log was emptied while the answer was under way.
        let index = position.checked_sub(self.first);
        let Some(request) = index.and_then(|index| self.requests.get_mut(index)) else { return };
        request.answered = Some(status);
        if (200..300).contains(&status) {
            self.delivered.insert(request.webhook_id.clone());
        }
    }
}
