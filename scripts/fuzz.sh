#!/usr/bin/env bash
# Runs each fuzz target for a while: scripts/fuzz.sh [SECONDS] [TARGET…]. Needs a nightly compiler; installs cargo-fuzz.
# Without a sanitizer: there is no unsafe code here.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-20}
shift || true
[ $# -gt 0 ] || set -- csv message money entry
if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "no nightly compiler (rustup toolchain install nightly): running the bodies on seeds and random bytes instead" >&2
    exec cargo test --workspace --features failpoints --test it fuzz::
fi
command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked
for target in "$@"; do
    mkdir -p "fuzz/corpus/$target"
    cargo +nightly fuzz run -s none "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
        -max_total_time="$seconds" -max_len=65536 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1
done
