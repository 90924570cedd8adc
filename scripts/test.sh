#!/usr/bin/env bash
# All tests, on one private Postgres and Redis that they share: each test has a database and a key prefix of its own.
# Arguments choose some of them, by any part of their paths: scripts/test.sh failpoints:: provider::turns
# With LINT=1, as `make test` runs it, clippy compiles what is tested, and the code's documentation is built beside the tests.
set -euo pipefail
cd "$(dirname "$0")/.."
unset DATABASE_URL REDIS_URL DATABASE_URL_FILE REDIS_URL_FILE

scripts/python.sh
if [ -n "${LINT:-}" ]; then
    # It is the compiler, with lints: one pass instead of two. The arguments are what `cargo clippy -- -D warnings` gives it.
    export RUSTC_WORKSPACE_WRAPPER=clippy-driver CLIPPY_ARGS=-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__
fi
cargo build --timings --workspace --all-targets --features failpoints
folder=$(mktemp -d "${TMPDIR:-/tmp}/orderstream-test.XXXXXX")
chmod 755 "$folder"
doc=
trap '[ -z "$doc" ] || kill "$doc" 2>/dev/null || true; rm -rf "$folder"' EXIT
export RUST_LOG=${RUST_LOG:-warn}
# The files of a Postgres for every test that needs one of its own: making them anew takes longer than most tests.
target/debug/orderstream --state-dir "$folder/cluster" --no-sync --quiet migrate
export ORDERSTREAM_TEST_CLUSTER=$folder/cluster/postgres
cp -a "$folder/cluster" "$folder/stack"

options=(--workspace --features failpoints)
if command -v cargo-nextest >/dev/null; then
    # Told what was built, it asks Cargo for nothing, whose lock the documentation has meanwhile.
    cargo nextest list "${options[@]}" --list-type binaries-only --message-format json >"$folder/binaries.json"
    cargo metadata --format-version 1 --features failpoints >"$folder/metadata.json"
    tests=(cargo nextest run --binaries-metadata "$folder/binaries.json" --cargo-metadata "$folder/metadata.json" --no-fail-fast -- "$@")
else
    # Half of them wait.
    export RUST_TEST_THREADS=6
    tests=(cargo test --all-targets "${options[@]}" --no-fail-fast -- "$@")
fi
# In a process of its own, which ends when it is told to.
document() { RUSTDOCFLAGS="-D warnings" exec nice -n 19 cargo doc --no-deps --workspace >"$folder/doc.log" 2>&1; }
if [ -n "${LINT:-}" ]; then
    if command -v cargo-nextest >/dev/null; then
        document &
        doc=$!
    else
        (document) || { cat "$folder/doc.log"; exit 1; }
    fi
fi
target/debug/orderstream --state-dir "$folder/stack" --no-sync dev --no-workers -- "${tests[@]}"
if [ -n "$doc" ]; then
    wait "$doc" || { cat "$folder/doc.log"; exit 1; }
    doc=
fi
[ $# -eq 0 ] || exit 0
scripts/demo.sh target/debug/orderstream 2000 >"$folder/demo.log" 2>&1 || { cat "$folder/demo.log"; exit 1; }
echo "The demo in small went through."
