#!/usr/bin/env bash
# All tests, on one private Postgres and Redis that they share: each test has a database and a key prefix of its own.
# Arguments choose some of them: scripts/test.sh --test failpoints
set -euo pipefail
cd "$(dirname "$0")/.."
unset DATABASE_URL REDIS_URL DATABASE_URL_FILE REDIS_URL_FILE

scripts/python.sh
cargo build --workspace --features failpoints --bin orderstream
folder=$(mktemp -d "${TMPDIR:-/tmp}/orderstream-test.XXXXXX")
chmod 755 "$folder"
trap 'rm -rf "$folder"' EXIT

if command -v cargo-nextest >/dev/null; then
    tests=(cargo nextest run --workspace --features failpoints --no-fail-fast "$@")
else
    [ $# -gt 0 ] || set -- --all-targets
    tests=(cargo test --workspace --features failpoints --no-fail-fast "$@")
fi
RUST_LOG=${RUST_LOG:-warn} target/debug/orderstream --state-dir "$folder/stack" dev --no-workers -- "${tests[@]}"
[ $# -eq 0 ] || [ "$1" = --all-targets ] || exit 0
cargo test --workspace --doc --quiet
scripts/demo.sh target/debug/orderstream 2000 >"$folder/demo.log" 2>&1 || { cat "$folder/demo.log"; exit 1; }
echo "The demo in small went through."
