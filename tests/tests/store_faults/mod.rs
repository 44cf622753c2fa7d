//! What becomes of events while JetStream does not store: intake stops, `/readyz` says why and what to do, nothing is
//! acknowledged that is not stored, and all goes on by itself once it is mended.

mod commands;
mod full;
mod permission;
mod quorum;
mod read_only;
mod stage;
mod start;
