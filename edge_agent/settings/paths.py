"""Make every path of a configuration absolute, and find the files it names that cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from edge_agent.settings.mistakes import Mistake


def place_paths(value: Any, folder: Path) -> Any:
    """Return the value with every relative path in it taken from `folder`."""
    if isinstance(value, Path):
        # `folder / path` leaves absolute paths as they are.
        return folder / value
    if isinstance(value, BaseModel):
        changed = {name: place_paths(getattr(value, name), folder) for name in type(value).model_fields}
        return value.model_copy(update=changed)
    if isinstance(value, tuple):
        return tuple(place_paths(one, folder) for one in value)
    return value


def unreadable_files(config: BaseModel) -> tuple[Mistake, ...]:
    """Try every file the configuration names (`*_file`); return a mistake for each that cannot be read."""
    found = []
    for key, path in files_in(config, ""):
        try:
            with path.open("rb") as file:
                file.read(1)
        except OSError as error:
            found.append(Mistake(key, "a file the agent can read", f"{error.strerror}: {path}"))
    return tuple(found)


def files_in(value: Any, key: str = "") -> Iterator[tuple[str, Path]]:
    """Give every file a configuration names (`*_file`) with its dotted key."""
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from files_in(getattr(value, name), f"{key}.{name}" if key else name)
    elif isinstance(value, tuple):
        for index, one in enumerate(value):
            yield from files_in(one, f"{key}[{index}]")
    elif isinstance(value, Path) and key.endswith("_file"):
        yield key, value
