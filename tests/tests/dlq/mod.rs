//! Dead letters and lanes as people see them: `hookmill dlq` and `hookmill lane`.

mod lanes;
mod letters;
