"""Share what every command needs: the folder option, an open installation, a console."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from flows.context import Context

DEFAULT_FOLDER = Path(".whetstone")

Folder = Annotated[
    Path,
    typer.Option("--folder", "-f", envvar="WHETSTONE_FOLDER", help="the installation's folder"),
]
Task = Annotated[str, typer.Option("--task", "-t", help="the task")]
By = Annotated[str, typer.Option("--by", help="who does this; kept in the record")]
Reason = Annotated[str, typer.Option("--reason", help="why; kept in the record")]

console = Console()


def user() -> str:
    """Return the name of whoever runs the command."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "operator"


@contextmanager
def installation(folder: Path) -> Iterator[Context]:
    """Open an installation for one command."""
    from flows.context import open_context

    with open_context(folder) as ctx:
        yield ctx


def names_in(text: str) -> tuple[str, ...]:
    """Split a list written with commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())
