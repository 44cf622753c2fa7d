//! How many files the process may have open, and how many of them may be connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Most connections to the address of health, metrics and admin API; more wait in the system's queue.
const SERVED_MAX: u64 = 512;
/// Most files that are left for everything else: NATS, modules, secrets, lookups of names.
const REST_MAX: u64 = 256;
/// What is as good as no limit.
const LIMIT_MAX: u64 = 1 << 30;

/// The limit of open files, and what of it connections may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct OpenFiles {
    limit: u64,
    /// Connections to endpoints.
    pub(crate) deliveries: usize,
    /// Connections to the address of health, metrics and admin API.
    pub(crate) served: usize,
}

impl OpenFiles {
    /// Raises the limit to the highest that this process may have, and shares it out.
    pub(crate) fn raise() -> Self {
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
        // Some systems say that there is no limit and allow less all the same: then it stays as it was.
        let current = if raised.is_ok() { maximum } else { current };
        Self::of(current.unwrap_or(LIMIT_MAX))
    }

    /// Three eighths at most are left for everything else.
    fn of(limit: u64) -> Self {
        let limit = limit.min(LIMIT_MAX);
        let served = (limit / 8).min(SERVED_MAX);
        let deliveries = limit - served - (limit * 3 / 8).min(REST_MAX);
        let small = |count: u64| usize::try_from(count).unwrap_or(usize::MAX).max(1);
        Self { limit, deliveries: small(deliveries), served: small(served) }
    }

    /// Says in the log what there is.
    pub(crate) fn say(&self) {
        let Self { limit, deliveries, served } = self;
        tracing::info!(
            limit,
            deliveries,
            served,
            "open files: so many connections may go to endpoints and come to the admin address"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_stay_below_the_limit() {
        for (limit, deliveries, served) in [
            (128, 64, 16),
            (1024, 640, 128),
            (65_536, 64_768, 512),
            (u64::MAX, (1 << 30) - 768, 512),
            (0, 1, 1),
        ] {
            let files = OpenFiles::of(limit);
            assert_eq!((files.deliveries, files.served), (deliveries, served), "{limit}");
        }
    }
}
