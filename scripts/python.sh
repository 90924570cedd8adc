#!/usr/bin/env bash
# Makes target/python, where the tests' Python tools live (tests/python/requirements.txt); does nothing when it is as it
# should be. Tests run at the same time may call it at once.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=${CARGO_TARGET_DIR:-target}/python
wanted=$(sha256sum tests/python/requirements.txt)
is_ready() { [ "$(cat "$folder/ready" 2>/dev/null)" = "$wanted" ] && "$folder/bin/python" -c '' 2>/dev/null; }
is_ready && exit 0

mkdir -p "$(dirname "$folder")"
exec 9>"$folder.lock"
flock 9
is_ready && exit 0
rm -rf "$folder"
python3 -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check --requirement tests/python/requirements.txt
# Written last: what was interrupted is begun again.
echo "$wanted" >"$folder/ready"
