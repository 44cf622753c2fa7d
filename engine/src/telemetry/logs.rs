//! Where logs go and how they look: text on a terminal, JSON otherwise, always on standard error.

use tracing_subscriber::EnvFilter;

use super::output::{self, LogWriter};

/// Installs the subscriber. `HOOKMILL_LOG` sets the level (`default_level` otherwise), in `tracing`'s filter syntax.
/// `colour`: `None` means on a terminal, unless `NO_COLOR` is set.
pub fn install(default_level: &str, colour: Option<bool>) {
    let filter = EnvFilter::try_from_env("HOOKMILL_LOG");
    let quiet = format!("{default_level},async_nats=error,cranelift_codegen=warn,wasmtime=warn");
    let filter = filter.unwrap_or_else(|_| EnvFilter::new(quiet));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| LogWriter);
    // What it would say of an error goes to standard error by `eprintln!`, which panics where that is gone.
    let builder = builder.log_internal_errors(false);
    let terminal = output::talk_is_on_terminal();
    // A second call (tests) keeps the first subscriber.
    let _ = if terminal {
        let colour =
            colour.unwrap_or_else(|| std::env::var_os("NO_COLOR").is_none_or(|text| text.is_empty()));
        builder.with_ansi(colour).with_target(false).try_init()
    } else {
        builder.json().flatten_event(true).with_current_span(false).try_init()
    };
}
