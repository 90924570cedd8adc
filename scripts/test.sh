#!/usr/bin/env bash
# All tests, on one private Postgres and Redis that they share: each test has a database and a key prefix of its own.
# Arguments choose some of them, by any part of their paths: scripts/test.sh failpoints:: provider::turns
# As `make test` runs it: with SETUP=1 what tests need is installed while they are compiled; with LINT=1 clippy compiles them,
# and rustdoc the documentation (scripts/rustc.sh).
set -euo pipefail
cd "$(dirname "$0")/.."
unset DATABASE_URL REDIS_URL DATABASE_URL_FILE REDIS_URL_FILE

folder=
# An installation that has begun is let end.
trap 'wait; [ -z "$folder" ] || rm -rf "$folder"' EXIT
prepare() {
    [ -z "${SETUP:-}" ] || scripts/setup.sh test
    scripts/python.sh
}
prepare &
preparing=$!
if [ -n "${LINT:-}" ]; then
    # With the arguments that `cargo clippy -- -D warnings` gives clippy. Cargo builds anew when either changes.
    export RUSTC_WORKSPACE_WRAPPER=$PWD/scripts/rustc.sh CLIPPY_ARGS=-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__
fi
cargo build --timings --workspace --all-targets --features failpoints
wait "$preparing"
# Tests make and remove some hundred thousand files, which costs a file system of a disk more time than the tests need
# for all else; those in memory take 1 GB at the most.
if [ -z "${TMPDIR:-}" ] && [ -w /dev/shm ] && [ "$(df --output=avail /dev/shm | tail -1)" -gt 4000000 ] &&
    [ "$(awk '$1 == "MemAvailable:" { print $2 }' /proc/meminfo)" -gt 8000000 ]; then
    export TMPDIR=/dev/shm
fi
folder=$(mktemp -d "${TMPDIR:-/tmp}/orderstream-test.XXXXXX")
chmod 755 "$folder"
export RUST_LOG=${RUST_LOG:-warn}
# The files of a Postgres for every test that needs one of its own: making them anew takes longer than most tests.
target/debug/orderstream --state-dir "$folder/cluster" --no-sync --quiet migrate
export ORDERSTREAM_TEST_CLUSTER=$folder/cluster/postgres
cp -a "$folder/cluster" "$folder/stack"

options=(--workspace --features failpoints)
if command -v cargo-nextest >/dev/null; then
    tests=(cargo nextest run "${options[@]}" --no-fail-fast -- "$@")
else
    # Half of them wait.
    export RUST_TEST_THREADS=8
    tests=(cargo test --all-targets "${options[@]}" --no-fail-fast -- "$@")
fi
target/debug/orderstream --state-dir "$folder/stack" --no-sync dev --no-workers -- "${tests[@]}"
[ $# -eq 0 ] || exit 0
scripts/demo.sh target/debug/orderstream 2000 >"$folder/demo.log" 2>&1 || { cat "$folder/demo.log"; exit 1; }
echo "The demo in small went through."
