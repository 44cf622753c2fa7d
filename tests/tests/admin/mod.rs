//! The admin API from outside: who may do what, uploads, dead letters and lanes, TLS, and the commands that use it.

mod commands;
mod dead_letters;
mod described;
mod local;
mod matrix;
mod orphans;
mod support;
mod tls;
mod uploads;
