//! Guests that behave and guests that don't, through the front door.

mod calls;
mod guests;
mod limits;
mod metadata;
mod modules;
mod sharing;
mod wasi;
