"""Run the listed crashes that are not done yet; on a card by default, simulated with `--simulated`.

    python -m bench.gpu_parts.ladder [--out FOLDER] [--only NAME ...] [--simulated] [--write] [--smoke]

Rows go to `ladder.json` (of a card) or `ladder-simulated.json`; they are never mixed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from pathlib import Path

from bench.gpu_parts.kept import LIMIT_S, Kept, out_folder, still_to_do
from bench.gpu_parts.report import LADDER, SIMULATED_LADDER, ladder_markdown
from bench.reporting import put_between
from bench.train_parts.contend import ROOT, device_name
from bench.train_parts.crashes import CRASHES, EPOCHS, IMAGES
from bench.train_parts.survival import Yard, figures_of, row_of, run_crash, told_of

DOCUMENT = ROOT / "docs" / "benchmarks.md"


def main(arguments: list[str] | None = None) -> int:
    """Run rows until the time is up; the exit status is 1 when one could not be measured."""
    given = _arguments(arguments)
    cuda = device_name() != "cpu" and not given.simulated
    if not cuda and not (given.simulated or given.smoke):
        print("no card here: add --simulated to walk the same list on a simulated one")
        return 2
    out, earlier = out_folder(given.out, given.smoke)
    kept = Kept(out, "ladder" if cuda else "ladder-simulated", earlier)
    by_name = {crash.name: crash for crash in CRASHES}
    failed: dict[str, str] = kept.head.get("failed", {})
    # What could not be measured before is tried again last, so that it keeps nothing else from its turn.
    names = sorted(given.only or by_name, key=lambda name: name in failed)
    with tempfile.TemporaryDirectory(prefix="whetstone-ladder-") as work:
        size = (3, 8) if given.smoke else (EPOCHS, IMAGES if cuda else 24)
        yard = Yard(Path(work), cuda, *size)
        for name in still_to_do(names, kept, given.seconds):
            try:
                row = run_crash(by_name[name], yard)
            except Exception as error:  # one row must not cost the others
                traceback.print_exc()
                failed[name] = f"{type(error).__name__}: {error}"[:1000]
                kept.write(failed=failed)
                continue
            failed.pop(name, None)
            kept.add(name, told_of(row))
            print(f"{name}: survived {row.survived}, ratio {row.ratio:.3f}, {len(row.rungs)} rungs")
    rows = [row_of(kept.rows[name]) for name in by_name if name in kept.rows]
    kept.write(failed=failed, **figures_of(rows))
    if rows and given.write:
        put_between(DOCUMENT, LADDER if cuda else SIMULATED_LADDER, ladder_markdown(rows))
    print(f"{len(kept.rows)} of {len(CRASHES)} rows in {kept.path}")
    return int(bool(failed))


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", nargs="+", choices=[crash.name for crash in CRASHES])
    parser.add_argument("--seconds", type=float, default=LIMIT_S, help="no row is begun that would end later")
    parser.add_argument("--simulated", action="store_true", help="where there is no card")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    parser.add_argument("--smoke", action="store_true", help="tiny: whether it works")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
