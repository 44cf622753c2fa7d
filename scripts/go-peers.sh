#!/bin/sh
# Builds the Go clients of the tests into .tools/clients/go: the one of tests/clients/go, and the code for Go of
# docs/your-publisher.md. Their modules are pinned with hashes by tests/clients/go/go.sum; the Go is the one that guest-tools.sh
# has fetched, else that on PATH. Nothing outside the checkout is changed. Without Go or its modules the tests do without them:
# it is said here, and there. Quick when everything is there already.
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

# The page's blocks for Go in their frame, as tests/tests/foreign/documented.rs puts them there.
documented() {
    awk '
        NR == FNR && /^### / { inside = $0 == "### Go"; next }
        NR == FNR && inside && /^```/ { fenced = !fenced; next }
        NR == FNR { if (inside && fenced) block[++lines] = $0; next }
        /\/\/ The blocks\./ { sub(/\/\/.*/, ""); for (line = 1; line <= lines; line++) print $0 block[line]; next }
        { print }
    ' "$root/docs/your-publisher.md" "$root/tests/documented/frame.go"
}

sources() {
    cat "$source/go.mod" "$source/go.sum" "$source/main.go"
    documented
}

if [ -x "$clients/publish" ] && [ -x "$clients/documented/publish" ] && sources | cmp -s - "$clients/sources"; then
    echo "$clients/publish"
    exit 0
fi

# A client of other sources must not be taken for this one.
rm -rf "$clients/publish" "$clients/documented" "$clients/sources"
PATH=$root/.tools/guests/venv/bin:$PATH
command -v go >/dev/null 2>&1 || without "there is no go"
echo "building the Go clients of the tests into .tools/clients/go" >&2
mkdir -p "$clients/documented"
documented >"$clients/documented/main.go"
cp "$source/go.mod" "$source/go.sum" "$clients/documented/"
# Modules that can be written to can be removed with .tools.
export GOMODCACHE="$clients/modules" GOCACHE="$clients/cache" GOFLAGS="-mod=readonly -modcacherw"
export GOTOOLCHAIN=local GOWORK=off CGO_ENABLED=0
(cd "$source" && go mod download >&2) || without "the modules of $source/go.mod can't be fetched (see above)"
(cd "$source" && go build -trimpath -o "$clients/publish" . >&2) || fail "the client in $source can't be built (see above)"
(cd "$clients/documented" && go build -trimpath -o publish . >&2) ||
    fail "the code for Go in docs/your-publisher.md can't be built (see above)"
rm -rf "$GOMODCACHE" "$GOCACHE"
sources >"$clients/sources"
echo "$clients/publish"
