#!/usr/bin/env bash
# The whole way of a file of orders, on private servers that are gone afterwards.
#   scripts/demo.sh PROGRAM ROWS
set -euo pipefail

program=$(realpath "$1")
rows=$2
unset DATABASE_URL REDIS_URL DATABASE_URL_FILE REDIS_URL_FILE
folder=$(mktemp -d "${TMPDIR:-/tmp}/orderstream-demo.XXXXXX")
chmod 755 "$folder"
export ORDERSTREAM_STATE_DIR=$folder/stack
stack=

finish() {
    status=$?
    if [ -n "$stack" ]; then
        kill -INT "$stack" 2>/dev/null || true
        wait "$stack" 2>/dev/null || true
    fi
    rm -rf "$folder"
    exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM

say() { printf '\n== %s\n' "$*"; }
run() { printf '$ orderstream %s\n' "$*"; "$program" "$@"; }

say "Start a private Postgres and Redis in $folder"
mkfifo "$folder/ready"
RUST_LOG=warn "$program" dev --no-workers >"$folder/ready" &
stack=$!
ready=
while read -r line; do
    if [ "$line" = ready ]; then
        ready=yes
        break
    fi
done <"$folder/ready"
[ -n "$ready" ] || { echo "error: the stack did not start" >&2; exit 1; }

# Scarce enough that some orders find the shelf empty.
say "A catalogue: 300 products, 1,500 customers"
run seed --products 300 --customers 1500 --stock $((rows * 3 / 300 + 1))

say "A file of $rows rows"
run generate "$folder/orders.csv" --rows "$rows"
head -4 "$folder/orders.csv"

say "Import it, and let reservation, payment and settlement do their work"
run import "$folder/orders.csv"

say "What it brought in"
run kpi
echo
run leaderboard customers --top 5
echo
run leaderboard products --top 5

say "Do the books balance?"
run audit

say "Done; the servers stop and their data is removed"
