#!/bin/sh
# Fetches what makes modules of JavaScript, Python, Go and WebAssembly text into .tools/guests/, pinned with hashes by
# tests/guests/; the generator for Go is built from its crate, pinned by its version and the crate's own lock file. Nothing outside the checkout is changed. Quick when everything is there already.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
pins=$root/tests/guests
guests=$root/.tools/guests
wit_bindgen=0.61.1

fail() {
    echo "guest-tools.sh: $1" >&2
    exit 1
}

# A venv knows where it lies: in a checkout that was moved or copied its programs don't start.
python_tools() {
    cmp -s "$pins/requirements.txt" "$guests/venv/requirements.txt" &&
        "$guests/venv/bin/componentize-py" --version >/dev/null 2>&1 && return
    command -v python3 >/dev/null 2>&1 || fail "python3 is needed to build Python guests: install it"
    echo "fetching componentize-py and wasm-tools into .tools/guests/venv" >&2
    rm -rf "$guests/venv"
    python3 -m venv "$guests/venv" >&2 || fail "python3 can't make a venv: install python3-venv"
    "$guests/venv/bin/python3" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --require-hashes --requirement "$pins/requirements.txt" >&2 ||
        fail "the packages of $pins/requirements.txt can't be installed (see above)"
    cp "$pins/requirements.txt" "$guests/venv/requirements.txt"
}

# In a new folder and moved when it is whole: npm leaves half of it behind when it is stopped.
javascript_tools() {
    cmp -s "$pins/package-lock.json" "$guests/js/package-lock.json" && return
    command -v npm >/dev/null 2>&1 || fail "npm is needed to build JavaScript guests: install Node.js 20 or newer"
    echo "fetching componentize-js into .tools/guests/js" >&2
    rm -rf "$guests/js" "$guests/js.new"
    mkdir -p "$guests/js.new"
    cp "$pins/package.json" "$pins/package-lock.json" "$guests/js.new/"
    (cd "$guests/js.new" && npm ci --silent --ignore-scripts --no-audit --no-fund >&2) ||
        fail "the packages of $pins/package-lock.json can't be installed (see above)"
    mv "$guests/js.new" "$guests/js"
}

# The generator, and the Go package that what it generates imports: it lies inside the crate.
go_tools() {
    [ "$(cat "$guests/wit-bindgen/version" 2>/dev/null)" = "$wit_bindgen" ] && return
    command -v cargo >/dev/null 2>&1 || fail "cargo is needed to build the generator for Go guests: install Rust"
    echo "building wit-bindgen $wit_bindgen into .tools/guests/wit-bindgen" >&2
    rm -rf "$guests/wit-bindgen"
    mkdir -p "$guests/wit-bindgen"
    CARGO_TARGET_DIR=$guests/wit-bindgen/target cargo install wit-bindgen-cli --quiet --version "$wit_bindgen" --locked \
        --debug --no-default-features --features go,async --root "$guests/wit-bindgen" >&2 ||
        fail "wit-bindgen-cli $wit_bindgen can't be built (see above)"
    rm -rf "$guests/wit-bindgen/target"
    package=$(find "${CARGO_HOME:-$HOME/.cargo}/registry/src" -path "*/wit-bindgen-go-$wit_bindgen/src/pkg" -prune | head -n 1)
    [ -n "$package" ] || fail "the sources of wit-bindgen-go $wit_bindgen are not where cargo keeps them"
    cp -R "$package" "$guests/wit-bindgen/pkg"
    echo "$wit_bindgen" >"$guests/wit-bindgen/version"
}

mkdir -p "$guests"
python_tools
javascript_tools
go_tools
echo "$guests"
