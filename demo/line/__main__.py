"""Run one simulated line: `python -m demo.line --out FOLDER --name line-a --seed 1 --order FILE`.

Parts come at the pace the order file says, until it says stop; killed and started again, the line
goes on with the next part.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from demo.line.writer import LineWriter, read_order


def run_line(out: Path, *, name: str, seed: int, order_file: Path) -> int:
    """Make parts into `out/camera` and `out/truth` until told to stop; return how many were ever made."""
    writer = LineWriter(out / "camera", out / "truth", name=name, seed=seed)
    due = time.monotonic()
    while True:
        order = read_order(order_file)
        if order.stop or writer.number >= order.parts:
            return writer.number
        writer.make(order.mix)
        # A line that fell behind does not rush to catch up.
        due = max(due + 1.0 / max(order.parts_per_second, 0.01), time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line of one simulated line."""
    parser = argparse.ArgumentParser(prog="python -m demo.line", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for camera/ and truth/")
    parser.add_argument("--name", required=True, help="starts every part id; usually the device's id")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--order", type=Path, required=True, help="JSON file saying mix, pace and stop")
    given = parser.parse_args(arguments)
    run_line(given.out, name=given.name, seed=given.seed, order_file=given.order)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
