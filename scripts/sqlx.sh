#!/usr/bin/env bash
# Renews .sqlx, by which queries are checked without a database. Postgres is started by hand: after a change of SQL
# the program itself does not build yet.
set -euo pipefail
cd "$(dirname "$0")/.."

bin=$(dirname "$(command -v initdb || ls /usr/lib/postgresql/*/bin/initdb | sort -V | tail -n 1)")
folder=$(mktemp -d "${TMPDIR:-/tmp}/orderstream-sqlx.XXXXXX")
chmod 755 "$folder"
as() { "$@"; }
if [ "$(id -u)" -eq 0 ]; then
    chown postgres "$folder"
    as() { runuser -u postgres -- "$@"; }
fi
trap 'as "$bin/pg_ctl" --silent --pgdata "$folder/data" --mode immediate stop; rm -rf "$folder"' EXIT

cd "$folder"
as "$bin/initdb" --pgdata "$folder/data" --username orderstream --auth trust >/dev/null
as "$bin/pg_ctl" --silent --wait --pgdata "$folder/data" --log "$folder/log" \
    --options "-c listen_addresses= -c fsync=off -c unix_socket_directories='$folder'" start
cd - >/dev/null
for migration in migrations/*.sql; do
    psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --host "$folder" --username orderstream postgres --file "$migration"
done
rm -rf .sqlx
mkdir .sqlx
touch pipeline/src/lib.rs
DATABASE_URL="postgres://orderstream@localhost/postgres?host=$folder" SQLX_OFFLINE=false SQLX_OFFLINE_DIR=$PWD/.sqlx \
    cargo check --workspace --all-targets --features failpoints
