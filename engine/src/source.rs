//! Taking messages from source streams.
