#!/usr/bin/env bash
# Run every test that is no soak test; arguments go to pytest both times.
#
# (1) The box and the benches alone: their tests are about time.
# (2) All other rooms, two files at a time: much of what they do is waiting for real servers and children.
set -uo pipefail
cd "$(dirname "$0")/.."
none=5 # what pytest answers where a selection leaves nothing

run() {
    .venv/bin/python -m pytest -m "not soak" "$@"
    local status=$?
    [ $status = $none ] && status=0
    return $status
}

run tests/edge_agent tests/bench "$@"
first=$?
run tests --ignore tests/edge_agent --ignore tests/bench --numprocesses 2 --dist loadfile "$@"
second=$?
[ $first = 0 ] && [ $second = 0 ]
