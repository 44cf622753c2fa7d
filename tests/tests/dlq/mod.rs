//! Dead letters and lanes as people see them: `hookmill dlq` and `hookmill lane`.

mod bulk;
mod lanes;
mod letters;
mod moves;
mod rerun;
pub mod stock;
