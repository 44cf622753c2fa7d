#!/bin/sh
# Fetches the Java clients of the tests with Maven and compiles them into .tools/clients/java. The versions are pinned by
# tests/clients/java/pom.xml, every jar of theirs with its hash by jars.sha256 beside it; Maven's own plugin is pinned by its
# version, and Maven holds it against the checksums that come with it. Nothing outside the checkout is changed. Without Java,
# Maven or the jars the tests do without that client: it is said here, and there. Quick when everything is there already.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
source=$root/tests/clients/java
clients=$root/.tools/clients/java
copy=org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies

fail() {
    echo "java-peers.sh: $1" >&2
    exit 1
}

without() {
    echo "java-peers.sh: $1: the tests do without the Java SDK" >&2
    exit 0
}

sources() {
    cat "$source/pom.xml" "$source/jars.sha256" "$source"/*.java
}

if sources | cmp -s - "$clients/sources"; then
    echo "$clients"
    exit 0
fi

# A client of other sources must not be taken for this one.
rm -rf "$clients"
for tool in java javac mvn sha256sum; do
    command -v $tool >/dev/null 2>&1 || without "there is no $tool"
done
# The oldest Java that has all that the sources use.
javac --release 17 --version >/dev/null 2>&1 || without "javac is older than 17"
echo "fetching the Java clients of the tests into .tools/clients/java" >&2
mkdir -p "$clients"
mvn --batch-mode --quiet --strict-checksums --file "$source/pom.xml" "-Dmaven.repo.local=$clients/repository" \
    $copy -DincludeScope=runtime "-DoutputDirectory=$clients/jars" >&2 ||
    without "the packages of $source/pom.xml can't be fetched (see above)"
(cd "$clients/jars" && sha256sum --quiet --strict --check "$source/jars.sha256" >&2) ||
    fail "a jar is not the one that $source/jars.sha256 pins (see above)"
[ "$(ls "$clients/jars" | wc -l)" -eq "$(wc -l <"$source/jars.sha256")" ] ||
    fail "there are jars that $source/jars.sha256 doesn't pin: $(ls "$clients/jars" | tr '\n' ' ')"
rm -rf "$clients/repository"
javac --release 17 -cp "$clients/jars/*" -d "$clients/classes" "$source"/*.java >&2 ||
    fail "the client in $source can't be compiled (see above)"
sources >"$clients/sources"
echo "$clients"
