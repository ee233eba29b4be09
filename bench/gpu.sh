#!/bin/sh
# Run every check that needs CUDA in one go, within eight minutes, and leave gpu_checks.json under $OUT.
# Wheels in .whl/, if any, are put in front of what the machine's python3 has.
set -eu
cd "$(dirname "$0")/.."
OUT=${OUT:-bench/results}
mkdir -p "$OUT"
[ -x .venv/bin/python ] && PYTHON=${PYTHON:-.venv/bin/python}
PYTHON=${PYTHON:-python3}
if ls .whl/*.whl >/dev/null 2>&1; then
    site=$(mktemp -d)
    "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --target "$site" .whl/*.whl
    PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
    export PYTHONPATH
fi
export PYTHONUNBUFFERED=1
exec timeout 480 "$PYTHON" bench/gpu_checks.py --out "$OUT" "$@"
