"""Play policies of renting on the simulated market: the whole grid, beside rivals and the offline optimum.

    python bench/renting.py [--seeds 100] [--write]

`--write` puts table and picture into the documentation and the figures into `bench/results/renting.json`.
The market's climate stands in `flows/gpus/market/climate.py`; seeds from 0 on are for measuring, those from
10,000 on are for trying.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.progress import track

from bench.renting_parts.cells import Cell, figures_of, play_cell
from bench.renting_parts.orphans import KINDS, orphans_of, table
from bench.renting_parts.report import BEGIN, END, draw, markdown
from bench.reporting import put_between
from flows.gpus.market.climate import grid

ROOT = Path(__file__).resolve().parent.parent
TABLE, PICTURE = ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "img" / "renting.png"


def main() -> None:
    """Play the grid and print its table."""
    parser = argparse.ArgumentParser(description="Play policies of renting on a simulated market.")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--orphans", type=int, default=100, help="runs a class with all of ours dead")
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md and bench/results")
    given = parser.parse_args()
    cells: list[Cell] = [
        play_cell(climate, work, range(given.seeds))
        for climate, work in track(grid(), description="playing the grid")
    ]
    orphans = [
        orphans_of(kind, range(given.orphans)) for kind in track(KINDS, description="leaving machines alone")
    ]
    figures = figures_of(cells)
    for row in orphans:
        figures[f"rent.overlived_dead.{row.kind}"] = max(row.minutes)
    report = f"{markdown(cells, figures)}\n\n{table(orphans)}"
    print(report)
    if given.write:
        PICTURE.parent.mkdir(exist_ok=True)
        draw(cells, PICTURE)
        put_between(TABLE, (BEGIN, END), report)
        (ROOT / "bench" / "results" / "renting.json").write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
