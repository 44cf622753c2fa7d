#!/bin/sh
# Builds the Go client of the tests into .tools/clients/go, pinned with hashes by tests/clients/go/go.sum, with the Go that
# guest-tools.sh has fetched, else with the one on PATH. Nothing outside the checkout is changed. Without Go or its modules
# the tests do without that client: it is said here, and there. Quick when everything is there already.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
source=$root/tests/clients/go
clients=$root/.tools/clients/go

fail() {
    echo "go-peers.sh: $1" >&2
    exit 1
}

without() {
    echo "go-peers.sh: $1: the tests do without the Go SDK" >&2
    exit 0
}

sources() {
    cat "$source/go.mod" "$source/go.sum" "$source/main.go"
}

if [ -x "$clients/publish" ] && sources | cmp -s - "$clients/sources"; then
    echo "$clients/publish"
    exit 0
fi

# A client of other sources must not be taken for this one.
rm -f "$clients/publish" "$clients/sources"
PATH=$root/.tools/guests/venv/bin:$PATH
command -v go >/dev/null 2>&1 || without "there is no go"
echo "building the Go client of the tests into .tools/clients/go" >&2
mkdir -p "$clients"
# Modules that can be written to can be removed with .tools.
export GOMODCACHE="$clients/modules" GOCACHE="$clients/cache" GOFLAGS="-mod=readonly -modcacherw"
export GOTOOLCHAIN=local GOWORK=off CGO_ENABLED=0
(cd "$source" && go mod download >&2) || without "the modules of $source/go.mod can't be fetched (see above)"
(cd "$source" && go build -trimpath -o "$clients/publish" . >&2) || fail "the client in $source can't be built (see above)"
rm -rf "$GOMODCACHE" "$GOCACHE"
sources >"$clients/sources"
echo "$clients/publish"
