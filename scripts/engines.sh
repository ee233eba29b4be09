#!/usr/bin/env bash
# Set up the engines that rent for us, each in an environment of its own; a second call returns at once.
#   scripts/engines.sh dstack             dstack's server in .engines/dstack
#   scripts/engines.sh dstack skypilot    the same, and SkyPilot's API server in .engines/skypilot
# They pin other versions of what we use, so nothing of ours is in them and nothing of them is in .venv: our
# adapters speak to their servers over HTTP. Tests start them on loopback; a server of yours may run anywhere.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
[ $# -gt 0 ] || { echo "whetstone: expected names of engines: $(cd deploy/engines && ls | sed 's/\.txt$//' | xargs)" >&2; exit 1; }

for engine in "$@"; do
    lock=deploy/engines/$engine.txt
    if [ ! -f "$lock" ]; then
        echo "whetstone: expected an engine with a lock file, got '$engine': there is no $lock" >&2
        exit 1
    fi
    # (1) The stamp is the hash of what decides the packages.
    stamp=.engines/$engine/.whetstone-$(cat "$lock" scripts/engines.sh | sha256sum | cut -c1-16)
    if [ -e "$stamp" ]; then
        continue
    fi
    # (2) The lock names every package, so nothing has to be resolved.
    # The stamp of another lock says nothing of what is there from here on.
    rm -f ".engines/$engine"/.whetstone-*
    echo "whetstone: installing $(grep -cE '^[a-zA-Z0-9]' "$lock") packages into .engines/$engine (about a minute)"
    [ -x ".engines/$engine/bin/python" ] || "$python" -m venv ".engines/$engine"
    ".engines/$engine/bin/python" -m pip install -q --disable-pip-version-check --no-deps -r "$lock"
    # (3) A lock that lacks a package would show only when a server starts.
    if ! told=$(".engines/$engine/bin/python" -m pip check --disable-pip-version-check); then
        printf 'whetstone: expected %s to name every package, got:\n%s\n' "$lock" "$told" >&2
        exit 1
    fi
    touch "$stamp"
done
