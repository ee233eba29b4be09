"""Measure how well GPU memory is estimated: `make bench-vram`.

    python bench/vram.py                   what a processor can tell: some minutes
    python bench/vram.py --only timed      seconds of an estimate alone; the machine should be quiet
    python bench/vram.py --only tracked    torch's tracker on the cards' configurations: ten minutes
    python bench/vram.py --quick           one step and one network, kept nowhere: whether it works
    python bench/vram.py --write           also into docs/benchmarks.md

Where there is a card (`bench/gpu.sh vram`) it measures there instead, until all is done or --seconds are up;
start it again to go on. Rows that were measured before, here or in bench/results, are kept; --again starts
over. Results go to bench/results/vram-cpu.json and vram-gpu.json.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# In place of this folder, in which `demo.py` would hide the package of that name.
sys.path[0] = str(ROOT)

from bench.edge_parts.machine import describe_machine  # noqa: E402 - after the path is right
from bench.reporting import put_between  # noqa: E402
from bench.vram_parts.configs import TIMED  # noqa: E402
from bench.vram_parts.report import MARKERS, markdown  # noqa: E402
from bench.vram_parts.rounds import Rows, has_card, run_cpu, run_gpu, run_timed, run_tracked  # noqa: E402

RESULTS = ROOT / "bench" / "results"
DOCUMENT = ROOT / "docs" / "benchmarks.md"


def main() -> int:
    """Measure what was asked for; the exit status does not say whether targets are met."""
    given = _arguments()
    with tempfile.TemporaryDirectory(prefix="whetstone-bench-") as scratch:
        if given.quick:
            given.out, given.limit, given.again = Path(scratch), 1, True
        return _measure(given, given.cache or Path(scratch))


def _measure(given: argparse.Namespace, cache: Path) -> int:
    if has_card():
        rows = _rows(given, "vram-gpu.json")
        done = run_gpu(rows, cache, print, given.seconds, given.limit)
        print("done" if done else "time is up; start again to go on")
        return 0
    rows = _rows(given, "vram-cpu.json")
    rows.content["machine"] = describe_machine()
    if given.only in (None, "timed"):
        run_timed(rows, print, TIMED[: given.limit])
    if given.only in (None, "steps"):
        run_cpu(rows, cache, print, given.limit)
    if given.only == "tracked":
        run_tracked(rows, print, given.limit)
    rows.save()
    report = markdown(rows.content, Rows(given.out / "vram-gpu.json").content.get("gpu_runs", []))
    print(report)
    if given.write:
        put_between(DOCUMENT, MARKERS, report)
    return 0


def _rows(given: argparse.Namespace, name: str) -> Rows:
    """Return the rows kept so far: a card's machine is bare, but what it gave before lies in the checkout."""
    place, before = given.out / name, RESULTS / name
    if not given.again and not place.is_file() and before.is_file():
        place.write_bytes(before.read_bytes())
    if given.again:
        place.unlink(missing_ok=True)
    return Rows(place)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=("timed", "steps", "tracked"))
    parser.add_argument("--limit", type=int, help="so many of the processor's configurations")
    parser.add_argument(
        "--seconds", type=float, default=440.0, help="after which no further run on a card begins"
    )
    parser.add_argument("--cache", type=Path, help="folder for profiles")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--quick", "--smoke", action="store_true")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--write", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
