"""Be the command `whetstone`: everything a person asks of the cloud side.

Commands of other packages (the demo) join through the entry-point group `whetstone.commands`, so that
nothing here imports them. What is heavy is imported inside the commands: `whetstone --help` answers at once.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0 done, 1 asked in vain, 2 something was wrong."""
    from flows.cli.app import run

    return run(arguments)
