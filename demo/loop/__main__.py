"""Run the demo on the simulated line with other numbers: `python -m demo.loop --folder F --settings FILE`.

`whetstone demo` is for people; this is for tests and experiments. The file is JSON with the fields of
`LoopSettings` that differ.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter
from rich.console import Console

from demo.loop.run import run_line_demo
from demo.loop.settings import LoopSettings


def read_settings(path: Path | None) -> LoopSettings:
    """Read settings from JSON; what it does not say is as in the demo.

    Raises:
        ValueError: a field is mistyped.
    """
    if path is None:
        return LoopSettings()
    return TypeAdapter(LoopSettings).validate_json(path.read_bytes())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m demo.loop", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--settings", type=Path, default=None)
    parser.add_argument("--no-random", action="store_true", help="leave the comparison out")
    given = parser.parse_args(arguments)
    settings = read_settings(given.settings)
    run_line_demo(given.folder, settings, Console(), with_random=not given.no_random)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
