//! Real sockets on loopback, scripted byte for byte; resolvers and dialers that record.

pub(crate) mod support;
