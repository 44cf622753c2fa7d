//! The files a user writes: raw form, checked form, report.
