//! Taking from the source: what is refused at start, what is survived, how much is held, which streams there are.

mod kinds;
mod pressure;
mod refused;
mod survived;
