//! Pure decisions about lanes, circuits and retries: no clock, no I/O.
