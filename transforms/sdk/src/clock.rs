//! The time. `std::time::SystemTime::now()` panics in a transform: there is no operating system below it.

/// Milliseconds since 1970-01-01 UTC. In tests on the host: what [`testing::set_now`](crate::testing) was given, else 0.
pub fn now() -> u64 {
    #[cfg(target_family = "wasm")]
    return crate::guest::bindings::hookmill::transform::clock::now();
    #[cfg(not(target_family = "wasm"))]
    crate::testing::now()
}
