//! Whether a subscription wants an event.
