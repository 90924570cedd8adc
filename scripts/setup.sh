#!/usr/bin/env bash
# Installs what is missing: scripts/setup.sh [build|run|test]
#   build  to build: a C compiler
#   run    also to run: redis-server, PostgreSQL's server programs
#   test   also what tests need: Python, Node.js, openssl, curl, tmux, iproute2, Prometheus, Alertmanager, Chromium (the default)
# Says what it does and asks for nothing. The servers are not started: the program and the tests start private ones where they
# need them.
set -euo pipefail

what=${1:-test}
case $what in
build | run | test) ;;
*)
    echo "usage: scripts/setup.sh [build|run|test]" >&2
    exit 2
    ;;
esac
missing=()
command -v cc >/dev/null || missing+=(gcc libc6-dev)
programs=cc
if [ "$what" != build ]; then
    command -v redis-server >/dev/null || missing+=(redis-server)
    if ! command -v initdb >/dev/null && ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then
        missing+=(postgresql)
    fi
    programs+=", redis-server, PostgreSQL 15 or later with initdb, pg_ctl and postgres"
fi
if [ "$what" = test ]; then
    if ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
        missing+=(python3 python3-venv)
    fi
    # The examples for other languages are run.
    command -v node >/dev/null || missing+=(nodejs)
    command -v openssl >/dev/null || missing+=(openssl)
    command -v curl >/dev/null || missing+=(curl)
    # The terminal page is looked at.
    command -v tmux >/dev/null || missing+=(tmux)
    # A test lets a machine vanish: a network namespace.
    command -v ip >/dev/null || missing+=(iproute2)
    # The rules and the dashboard that are shipped are evaluated.
    { command -v prometheus && command -v promtool; } >/dev/null || missing+=(prometheus)
    command -v amtool >/dev/null || missing+=(prometheus-alertmanager)
    # The pages are tried in a real browser.
    command -v chromium >/dev/null || missing+=(chromium fonts-dejavu-core)
    programs+=", python3 with venv, node, openssl, curl, tmux, ip, prometheus, promtool, amtool, chromium"
fi
[ ${#missing[@]} -eq 0 ] && exit 0

by_hand() {
    echo "error: $1" >&2
    echo "Install these and run the same command again: ${missing[*]}" >&2
    echo "(programs needed to $what: $programs)" >&2
    exit 1
}

command -v apt-get >/dev/null || by_hand "some programs are missing, and this system has no apt-get"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
        by_hand "some programs are missing, and installing them needs root: sudo apt-get install ${missing[*]}"
    fi
    as_root=(sudo -n)
fi

echo "Installing what is needed to $what from the distribution: ${missing[*]} (their services are not started)"
# Package scripts ask this program whether they may start a service.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap '"${as_root[@]}" rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
