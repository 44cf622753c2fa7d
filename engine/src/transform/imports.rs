//! Which imports there are behind a guest, and which build flags avoid the others.

/// The contract's own package; `log` and `clock` of any 0.1.x.
const CONTRACT: &str = "hookmill:transform/";

/// The export that every transform has.
pub(super) const HANDLER: &str = "hookmill:transform/handler@0.1.0";

/// What is linked of WASI 0.2, with nothing behind it. Sorted.
const WASI: [&str; 26] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
];

/// Whether the host has something for an import of this name.
pub(super) fn is_known(import: &str) -> bool {
    let (interface, version) = import.split_once('@').unwrap_or((import, ""));
    if let Some(own) = interface.strip_prefix(CONTRACT) {
        return version.starts_with("0.1.") && matches!(own, "types" | "log" | "clock");
    }
    let wasi = WASI.contains(&interface) || interface == "wasi:sockets/udp-create-socket";
    wasi && version.starts_with("0.2.")
}

/// How to build a module so that it doesn't import these.
pub(super) fn hint(imports: &[String]) -> &'static str {
    let any = |prefix: &str| imports.iter().any(|import| import.starts_with(prefix));
    if any("wasi:http/") {
        "JavaScript: build with componentize-js and disableFeatures: ['random', 'stdio', 'clocks', 'http', 'fetch-event']; \
         transforms make no requests"
    } else if any("wasi_snapshot_preview1") {
        "Rust: build for wasm32-unknown-unknown; Go: `wasm-tools component new --adapt wasi_snapshot_preview1=<adapter>`; \
         Python: componentize-py with --stub-wasi"
    } else if any("hookmill:transform/") {
        "it was built against another version of the contract; build it against the WIT of this one"
    } else {
        "transforms import hookmill:transform/log and clock, and at most WASI 0.2 without http; Rust: build for \
         wasm32-unknown-unknown; JavaScript: disableFeatures; Python: --stub-wasi; Go: the stub adapter"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_known_by_interface_and_version() {
        for known in [
            "hookmill:transform/log@0.1.0",
            "hookmill:transform/clock@0.1.3",
            "wasi:io/poll@0.2.9",
            "wasi:sockets/udp-create-socket@0.2.12",
        ] {
            assert!(is_known(known), "{known}");
        }
        for unknown in [
            "hookmill:transform/log@0.2.0",
            "hookmill:transform/secrets@0.1.1",
            "wasi:http/types@0.2.10",
            "wasi:io/poll@0.3.0",
            "wasi:io/poll",
            "acme:database/query@1.0.0",
            "log",
        ] {
            assert!(!is_known(unknown), "{unknown}");
        }
    }
}
