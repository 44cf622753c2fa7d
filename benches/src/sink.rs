//! An endpoint that does nothing but count.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::watch;

use crate::server::Server;

/// Counts requests and notes when the counts of interest are reached.
#[derive(Debug)]
struct Tally {
    count: AtomicUsize,
    marks: Vec<usize>,
    reached: watch::Sender<Vec<Instant>>,
}

impl Tally {
    fn add(&self) {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        if self.marks.contains(&count) {
            self.reached.send_modify(|reached| reached.push(Instant::now()));
        }
    }
}

/// The endpoint. Dropping it ends it.
#[derive(Debug)]
pub struct Sink {
    server: Server,
    tally: Arc<Tally>,
}

impl Sink {
    /// Starts an endpoint that notes when it has had as many requests as each of `marks` says, which rise.
    pub fn start(marks: &[usize]) -> Self {
        let tally =
            Tally { count: AtomicUsize::new(0), marks: marks.to_vec(), reached: watch::Sender::default() };
        let tally = Arc::new(tally);
        let counting = Arc::clone(&tally);
        Self { server: Server::start(move |_| counting.add()), tally }
    }

    /// Where it takes webhooks.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Requests so far.
    pub fn count(&self) -> usize {
        self.tally.count.load(Ordering::Relaxed)
    }

    /// When the mark at `index` was reached; waits for it.
    pub async fn reached(&self, index: usize) -> Instant {
        let mut reached = self.tally.reached.subscribe();
        let reached =
            reached.wait_for(|reached| reached.len() > index).await.expect("the tally lives as long as self");
        reached[index]
    }
}
