#!/usr/bin/env bash
# What Cargo calls in the compiler's place for our own packages when LINT=1 is given (scripts/test.sh): clippy, which is the
# compiler with lints, and for libraries rustdoc after it. A pass of their own would look at all dependencies once more.
set -euo pipefail

clippy-driver "$@"

case " $* " in
*" --crate-type lib "*) ;;
*) exit 0 ;;
esac
shift
arguments=()
while [ $# -gt 0 ]; do
    case $1 in
    # What only a compiler that writes code knows, and what says to Cargo that something is there.
    --emit=* | --json=* | --error-format=*) ;;
    -C) shift ;;
    --out-dir)
        out=$2
        shift
        ;;
    *) arguments+=("$1") ;;
    esac
    shift
done
# From target/debug/deps to target/doc.
exec rustdoc "${arguments[@]}" --out-dir "$out/../../doc" -D warnings
