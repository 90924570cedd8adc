#!/usr/bin/env bash
# Where the time of the last `make test` went: the ten slowest units of the build, and the ten slowest tests.
set -euo pipefail
cd "$(dirname "$0")/.."

python3 - "${CARGO_TARGET_DIR:-target}" <<'PYTHON'
import glob, json, os, re, sys
import xml.etree.ElementTree as tree

target = sys.argv[1]


def table(title, rows):
    rows = sorted(rows, reverse=True)
    print(f"\n{title}: {len(rows)}, {sum(seconds for seconds, _ in rows):.0f} s one after the other")
    for seconds, name in rows[:10]:
        print(f"{seconds:8.1f} s  {name}")


# A build that found everything built has no units: the last one that had some counts.
for path in sorted(glob.glob(f"{target}/cargo-timings/cargo-timing-*.html"), key=os.path.getmtime, reverse=True):
    found = re.search(r"^const UNIT_DATA = (\[.*?\]);$", open(path).read(), re.M | re.S)
    units = json.loads(found[1]) if found else []
    if len(units) > 20:
        table(f"Units built ({path})", [(unit["duration"], f"{unit['name']} {unit['version']}{unit['target']}") for unit in units])
        break
else:
    print("No build that scripts/test.sh made is there.")

try:
    cases = tree.parse(f"{target}/nextest/default/junit.xml").iter("testcase")
    table("Tests", [(float(case.get("time")), f"{case.get('classname')} {case.get('name')}") for case in cases])
except FileNotFoundError:
    print("\nNo times of tests: only cargo-nextest writes them down.")
PYTHON
