"""Train the first champion: `python -m demo.base` (`make demo-base`), about 20 minutes on one core."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from demo.base.recipe import assets_folder, read_recipe
from demo.base.train import BasePlaces, train_base
from trainer.backend_job import BackendEvent


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line of the base training."""
    parser = argparse.ArgumentParser(prog="python -m demo.base", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path(".whetstone-base"), help="folder to train in")
    parser.add_argument("--assets", type=Path, default=assets_folder(), help="where the package files go")
    given = parser.parse_args(arguments)
    recipe = read_recipe()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console()
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("training the first champion", total=recipe.epochs)

        def show(event: BackendEvent) -> None:
            if event.kind == "epoch":
                progress.update(bar, completed=event.epoch)

        record = train_base(recipe, BasePlaces(given.work.resolve(), given.assets), show)
    console.print(f"recall on unseen parts, known mix: {record.recall_known}")
    console.print(f"recall on unseen parts, changed and new: {record.recall_novel}")
    console.print(f"{record.size_bytes} bytes, SHA-256 {record.sha256}, {record.seconds:.0f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
