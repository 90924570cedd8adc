#!/usr/bin/env bash
# Installs what is missing to build, run and test: a C compiler, redis-server, PostgreSQL's server programs, and for the
# tests Python, Node.js, openssl, curl, tmux, Prometheus, Alertmanager and Chromium. Says what it does and asks for nothing.
# The servers are not started: the program and the tests start private ones where they need them.
set -euo pipefail

missing=()
command -v cc >/dev/null || missing+=(gcc libc6-dev)
command -v redis-server >/dev/null || missing+=(redis-server)
if ! command -v initdb >/dev/null && ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then
    missing+=(postgresql)
fi
if ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
    missing+=(python3 python3-venv)
fi
command -v node >/dev/null || missing+=(nodejs)
command -v openssl >/dev/null || missing+=(openssl)
command -v curl >/dev/null || missing+=(curl)
command -v tmux >/dev/null || missing+=(tmux)
{ command -v prometheus && command -v promtool; } >/dev/null || missing+=(prometheus)
command -v amtool >/dev/null || missing+=(prometheus-alertmanager)
# The dashboard is tried in a real browser.
command -v chromium >/dev/null || missing+=(chromium fonts-dejavu-core)
[ ${#missing[@]} -eq 0 ] && exit 0

by_hand() {
    echo "error: $1" >&2
    echo "Install these and run the same command again: ${missing[*]}" >&2
    echo "(programs needed: cc, redis-server, PostgreSQL 15 or later with initdb, pg_ctl and postgres, python3 with venv, node, openssl, curl, tmux, prometheus, promtool, amtool, chromium)" >&2
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

echo "Installing from the distribution: ${missing[*]} (their services are not started)"
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
