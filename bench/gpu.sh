#!/bin/sh
# Run one part of what needs CUDA, within eight minutes, and leave its JSON under $OUT.
#
#   bench/gpu.sh             checks: a step with AMP, memory, the ladder, the CUDA provider
#   bench/gpu.sh vram        estimated against measured memory, at least 40 configurations
#   bench/gpu.sh ladder      twenty trainings that die under plain ultralytics
#   bench/gpu.sh train       plain YOLO.train() against ours
#
# A part goes on where its JSON, under $OUT or in bench/results, says that it stopped: call it until it has
# nothing left to do. Works without .venv on a machine whose python3 has torch; wheels in .whl/, if any, are put
# in front of what that python3 has. More arguments go to the part (--smoke tries it, tiny, anywhere).
set -eu
cd "$(dirname "$0")/.."
OUT=${OUT:-bench/results}
export OUT
mkdir -p "$OUT"
PART=checks
case "${1:-}" in
checks | vram | ladder | train)
    PART=$1
    shift
    ;;
esac
[ -x .venv/bin/python ] && PYTHON=${PYTHON:-.venv/bin/python}
PYTHON=${PYTHON:-python3}
if ls .whl/*.whl >/dev/null 2>&1; then
    site=$(mktemp -d)
    "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --target "$site" .whl/*.whl
    PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
fi
PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
export PYTHONPATH PYTHONUNBUFFERED=1
case $PART in
checks) exec timeout 480 "$PYTHON" bench/gpu_checks.py --out "$OUT" "$@" ;;
vram) exec timeout 480 "$PYTHON" bench/vram.py --out "$OUT" "$@" ;;
ladder) exec timeout 480 "$PYTHON" -m bench.gpu_parts.ladder --out "$OUT" "$@" ;;
train) exec timeout 480 "$PYTHON" -m bench.gpu_parts.overhead --out "$OUT" "$@" ;;
esac
