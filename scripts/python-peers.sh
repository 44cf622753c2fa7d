#!/bin/sh
# Prints the path of a python3 in .tools/venv that has the packages of tests/python/requirements.txt (pinned, with
# hashes). Nothing outside the checkout is changed. Quick when everything is there already.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
venv=$root/.tools/venv
wanted=$root/tests/python/requirements.txt
installed=$venv/requirements.txt

fail() {
    echo "python-peers.sh: $1" >&2
    exit 1
}

if [ -x "$venv/bin/python3" ] && cmp -s "$wanted" "$installed"; then
    echo "$venv/bin/python3"
    exit 0
fi

command -v python3 >/dev/null 2>&1 || fail "python3 is needed for the tests with foreign clients: install it"
echo "installing the Python peers of the tests into .tools/venv" >&2
rm -rf "$venv"
python3 -m venv "$venv" >&2 || fail "python3 can't make a venv: install python3-venv"
"$venv/bin/python3" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
    --require-hashes --requirement "$wanted" >&2 || fail "the packages of $wanted can't be installed (see above)"
cp "$wanted" "$installed"
echo "$venv/bin/python3"
