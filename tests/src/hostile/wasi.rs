//! Guests that try what WASI 0.2 has for them. Each traps where it finds more than nothing.

use crate::guest::Guest;

const IO: &str = "package wasi:io@0.2.0;
  interface poll { resource pollable { block: func(); } poll: func(in: list<borrow<pollable>>) -> list<u32>; }";
const CLOCKS: &str =
    "package wasi:clocks@0.2.0; interface monotonic-clock { use wasi:io/poll@0.2.0.{pollable};
  subscribe-duration: func(when: u64) -> pollable; }";
const CLI: &str = "package wasi:cli@0.2.0; interface environment {
    get-environment: func() -> list<tuple<string, string>>; get-arguments: func() -> list<string>; }
  interface exit { exit: func(status: result); }";
const FILESYSTEM: &str = "package wasi:filesystem@0.2.0; interface types { resource descriptor; }
  interface preopens { use types.{descriptor}; get-directories: func() -> list<tuple<descriptor, string>>; }";
const RANDOM: &str =
    "package wasi:random@0.2.0; interface random { get-random-bytes: func(len: u64) -> list<u8>; }";
const SOCKETS: &str = "package wasi:sockets@0.2.0; interface network { resource network;
    enum error-code { unknown, access-denied, not-supported, invalid-argument, out-of-memory, timeout,
      concurrency-conflict, not-in-progress, would-block, invalid-state, new-socket-limit, address-not-bindable,
      address-in-use, remote-unreachable, connection-refused, connection-reset, connection-aborted,
      datagram-too-large, name-unresolvable, temporary-resolver-failure, permanent-resolver-failure }
    enum ip-address-family { ipv4, ipv6 } }
  interface instance-network { use network.{network}; instance-network: func() -> network; }
  interface tcp { resource tcp-socket; }
  interface tcp-create-socket { use network.{error-code, ip-address-family}; use tcp.{tcp-socket};
    create-tcp-socket: func(address-family: ip-address-family) -> result<tcp-socket, error-code>; }
  interface udp { resource udp-socket; }
  interface udp-create-socket { use network.{error-code, ip-address-family}; use udp.{udp-socket};
    create-udp-socket: func(address-family: ip-address-family) -> result<udp-socket, error-code>; }
  interface ip-name-lookup { use network.{error-code, network}; resource resolve-address-stream;
    resolve-addresses: func(network: borrow<network>, name: string) -> result<resolve-address-stream, error-code>; }";

/// Where what the host says lies, in a page that nothing else uses.
const SAID: u32 = 65_536;

/// A call whose list, written to [`SAID`], must be empty.
fn nothing(function: &str) -> String {
    let length = format!("(i32.load (i32.const {}))", SAID + 4);
    format!("(call {function} (i32.const {SAID})) (if {length} (then unreachable))")
}

/// A call whose result, written to [`SAID`], must be an error.
fn refused(call: &str) -> String {
    format!("{call} (if (i32.ne (i32.load8_u (i32.const {SAID})) (i32.const 1)) (then unreachable))")
}

/// Finds no files, no variables, no arguments.
pub fn look_around() -> Guest {
    let environment = [
        "\"get-environment\" (func $environment (param i32))",
        "\"get-arguments\" (func $arguments (param i32))",
    ];
    Guest::keep()
        .package(CLI)
        .package(FILESYSTEM)
        .import("wasi:cli/environment@0.2.0", &environment)
        .import("wasi:filesystem/preopens@0.2.0", &["\"get-directories\" (func $directories (param i32))"])
        .apply(&(nothing("$environment") + &nothing("$arguments") + &nothing("$directories")))
}

/// Gets no TCP socket, no UDP socket and no address of a name.
pub fn network() -> Guest {
    let open = |function| refused(&format!("(call {function} (i32.const 0) (i32.const {SAID}))"));
    let lookup = format!("(call $lookup (call $network) (i32.const 1024) (i32.const 4) (i32.const {SAID}))");
    let tcp = ["\"create-tcp-socket\" (func $tcp (param i32 i32))"];
    let udp = ["\"create-udp-socket\" (func $udp (param i32 i32))"];
    let names = ["\"resolve-addresses\" (func $lookup (param i32 i32 i32 i32))"];
    let text = "(i32.store (i32.const 1040) (i32.const 1701601633))";
    Guest::keep()
        .package(SOCKETS)
        .import("wasi:sockets/instance-network@0.2.0", &["\"instance-network\" (func $network (result i32))"])
        .import("wasi:sockets/tcp-create-socket@0.2.0", &tcp)
        .import("wasi:sockets/udp-create-socket@0.2.0", &udp)
        .import("wasi:sockets/ip-name-lookup@0.2.0", &names)
        .apply(
            &[open("$tcp"), open("$udp"), text.to_owned(), refused(&lookup).replace("1024", "1040")].concat(),
        )
}

fn with_clock() -> Guest {
    let soon = ["\"subscribe-duration\" (func $soon (param i64) (result i32))"];
    Guest::keep().package(IO).package(CLOCKS).import("wasi:clocks/monotonic-clock@0.2.0", &soon)
}

/// Sleeps for a minute.
pub fn sleep() -> Guest {
    with_clock()
        .import("wasi:io/poll@0.2.0", &["\"[method]pollable.block\" (func $block (param i32))"])
        .apply("(call $block (call $soon (i64.const 60000000000)))")
}

/// Takes handle after handle.
pub fn hoard() -> Guest {
    with_clock().apply("(loop $l (drop (call $soon (i64.const 0))) (br $l))")
}

/// Takes one handle a call and keeps it.
pub fn leak(guest: Guest) -> Guest {
    let soon = ["\"subscribe-duration\" (func $soon (param i64) (result i32))"];
    guest
        .package(IO)
        .package(CLOCKS)
        .import("wasi:clocks/monotonic-clock@0.2.0", &soon)
        .apply("(drop (call $soon (i64.const 0)))")
}

/// Waits for the same handle 100,000 times at once.
pub fn crowd() -> Guest {
    with_clock().import("wasi:io/poll@0.2.0", &["\"poll\" (func $poll (param i32 i32 i32))"]).apply(
        "(drop (memory.grow (i32.const 100)))
             (local.set $t (i64.extend_i32_u (call $soon (i64.const 0))))
             (loop $l
               (i32.store (i32.add (i32.const 262144) (i32.mul (local.get $n) (i32.const 4)))
                 (i32.wrap_i64 (local.get $t)))
               (br_if $l (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 100000))))
             (call $poll (i32.const 262144) (i32.const 100000) (i32.const 65536))",
    )
}

/// Asks for more random bytes than there is memory.
pub fn randomness() -> Guest {
    Guest::keep()
        .package(RANDOM)
        .import("wasi:random/random@0.2.0", &["\"get-random-bytes\" (func $random (param i64 i32))"])
        .apply("(call $random (i64.const 4294967296) (i32.const 65536))")
}

/// Ends the program, or so it thinks.
pub fn exit() -> Guest {
    Guest::keep()
        .package(CLI)
        .import("wasi:cli/exit@0.2.0", &["\"exit\" (func $exit (param i32))"])
        .apply("(call $exit (i32.const 1))")
}
