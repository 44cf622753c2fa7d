#!/bin/sh
# Fetches the JavaScript clients of the tests into .tools/clients/node, pinned with hashes by tests/clients/node/. Nothing outside
# the checkout is changed. Quick when everything is there already.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
pins=$root/tests/clients/node
clients=$root/.tools/clients/node

fail() {
    echo "node-peers.sh: $1" >&2
    exit 1
}

if ! cmp -s "$pins/package-lock.json" "$clients/package-lock.json"; then
    command -v npm >/dev/null 2>&1 || fail "npm is needed for the tests with foreign clients: install Node.js 20 or newer"
    echo "fetching the JavaScript clients of the tests into .tools/clients/node" >&2
    # In a new folder and moved when it is whole: npm leaves half of it behind when it is stopped.
    rm -rf "$clients" "$clients.new"
    mkdir -p "$clients.new"
    cp "$pins/package.json" "$pins/package-lock.json" "$clients.new/"
    (cd "$clients.new" && npm ci --silent --ignore-scripts --no-audit --no-fund >&2) ||
        fail "the packages of $pins/package-lock.json can't be installed (see above)"
    mv "$clients.new" "$clients"
fi
echo "$clients"
