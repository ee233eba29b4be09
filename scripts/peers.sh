#!/usr/bin/env bash
# Set up the peers `make bench-edge` compares with, apart from our own packages; a second call returns at once.
# ultralytics is one of our own packages already. Roboflow's `inference` pins other versions of nearly
# everything, so it lives in .venv-peers. Where it cannot be installed the table says so.
set -euo pipefail
cd "$(dirname "$0")/.."
inference=inference-cpu==${INFERENCE_VERSION:-1.8.3}

# (1) Its wheels end at a newer Python than ours begin with.
python=${PYTHON:-python3}
stamp=.venv-peers/.whetstone-$(echo "$inference" | cat - scripts/peers.sh | sha256sum | cut -c1-16)
if [ -e "$stamp" ]; then
    exit 0
fi

# (2) A virtual environment of its own; nothing of ours is in it.
echo "whetstone: installing $inference into .venv-peers (some gigabytes; some minutes)"
[ -x .venv-peers/bin/python ] || "$python" -m venv .venv-peers
.venv-peers/bin/python -m pip install -q --disable-pip-version-check "$inference"
touch "$stamp"
