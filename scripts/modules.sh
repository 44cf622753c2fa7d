#!/bin/sh
# Builds the transforms for WebAssembly into transforms/dist/.
#
# Takes the first of these that works, what is there already before what has to be fetched:
#   1. the toolchain on PATH, if it has the target wasm32-unknown-unknown;
#   2. Debian's packages rustc-web, cargo-web, rust-web-src, libstd-rust-web-dev and lld-19;
#   3. rustup, after `rustup target add`;
#   4. as root, the same Debian packages, installed with apt-get.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
transforms=$root/transforms
dist=$transforms/dist
target=wasm32-unknown-unknown
# Each folder whose crate is a module; the SDK isn't.
modules=$(cd "$transforms" && grep -l cdylib -- */Cargo.toml | sed 's|/.*||' | tr '\n' ' ')
packages="rustc-web cargo-web rust-web-src libstd-rust-web-dev lld-19"
wasm_ld=/usr/lib/llvm-19/bin/wasm-ld
guest_cargo=$root/.tools/guests/bin/cargo

say() { printf 'modules: %s\n' "$*" >&2; }

# Up to date: every module is there, and nothing that it is made of is newer.
fresh() {
    for module in $modules; do
        [ -f "$dist/$module.wasm" ] || return 1
    done
    [ -f "$dist/.built" ] || return 1
    newer=$(find "$transforms" -name target -prune -o -name dist -prune -o -name templates -prune -o -type f -newer "$dist/.built" -print)
    [ -z "$newer" ] && ! [ "$0" -nt "$dist/.built" ]
}

toolchain_has_target() {
    sysroot=$(cd "$transforms" && rustc --print sysroot 2>/dev/null) || return 1
    [ -d "$sysroot/lib/rustlib/$target" ]
}

# Where there is no network rustup would wait for long: it gets a minute.
rustup_adds_target() {
    command -v rustup >/dev/null 2>&1 || return 1
    say "adding the target $target to rustup's toolchain, outside of this checkout"
    (cd "$transforms" && timeout 60 rustup target add "$target" >/dev/null 2>&1) && toolchain_has_target
}

debian_is_there() {
    [ -x /usr/bin/rustc ] && [ -x /usr/bin/cargo ] && [ -x "$wasm_ld" ] || return 1
    [ -f "$(/usr/bin/rustc --print sysroot)/lib/rustlib/src/rust/library/std/Cargo.toml" ]
}

debian_installs() {
    command -v apt-get >/dev/null 2>&1 || return 1
    if [ "$(id -u)" != 0 ]; then
        say "there is no way to build for $target here. Either of these makes one:"
        say "  rustup target add $target"
        say "  sudo apt-get install --no-install-recommends $packages"
        exit 1
    fi
    say "installing Debian packages, outside of this checkout: $packages"
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086 # a list of words
    timeout 600 apt-get install -y -qq --no-install-recommends $packages >/dev/null 2>&1 ||
        { timeout 120 apt-get update -qq >/dev/null 2>&1 &&
            timeout 600 apt-get install -y -qq --no-install-recommends $packages >/dev/null; } || return 1
    debian_is_there
}

build_with_toolchain() {
    (cd "$transforms" && cargo build --release --target "$target")
}

# /usr/bin by name: on PATH there may be rustup's proxies. Debian has no standard library for this target,
# so it is built from its sources, which a release compiler does only with RUSTC_BOOTSTRAP.
build_with_debian() {
    (cd "$transforms" && RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc \
        CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=$wasm_ld \
        /usr/bin/cargo build --release -Zbuild-std=std,panic_abort --target "$target")
}

# A cargo that builds for $target as this script does, for guests that lie elsewhere: put its folder first on PATH.
write_cargo() {
    mkdir -p "$(dirname "$guest_cargo")"
    {
        echo '#!/bin/sh'
        echo '# Written by scripts/modules.sh.'
        if [ "$build" = build_with_debian ]; then
            echo "case \" \$* \" in *' --target $target '*)"
            echo "    export RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=$wasm_ld"
            echo '    exec /usr/bin/cargo "$@" -Zbuild-std=std,panic_abort ;;'
            echo 'esac'
        fi
        echo "exec $(command -v cargo) \"\$@\""
    } >"$guest_cargo.new"
    chmod +x "$guest_cargo.new"
    mv "$guest_cargo.new" "$guest_cargo"
}

if fresh && [ -x "$guest_cargo" ]; then
    say "transforms/dist/ is up to date"
    exit 0
fi

if toolchain_has_target; then
    build=build_with_toolchain
elif debian_is_there; then
    build=build_with_debian
elif rustup_adds_target; then
    build=build_with_toolchain
elif debian_installs; then
    build=build_with_debian
else
    say "there is no way to build for $target here: try 'rustup target add $target', or on Debian"
    say "  apt-get install --no-install-recommends $packages"
    exit 1
fi

write_cargo
mkdir -p "$dist"
started=$dist/.started
: >"$started"
$build
for module in $modules; do
    built=$transforms/target/$target/release/$(echo "$module" | tr - _).wasm
    cp "$built" "$dist/$module.wasm.new"
    mv "$dist/$module.wasm.new" "$dist/$module.wasm"
done
# As old as the start of the build: what was edited meanwhile is built the next time.
mv "$started" "$dist/.built"
say "built into transforms/dist/: $modules"
