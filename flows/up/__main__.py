"""Run the embedded services without the command line: `python -m flows.up --folder F [--only NAME ...]`."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from flows.up.embedded import run_up


def main() -> None:
    """Run until interrupted."""
    parser = argparse.ArgumentParser(description="Run the embedded services of a folder.")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=None)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    run_up(given.folder, only=frozenset(given.only) if given.only is not None else None)


if __name__ == "__main__":
    main()
