//! Stores, acknowledges and spawns: the only place that does.
