//! The path of an event.
