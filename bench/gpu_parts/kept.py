"""Keep rows as they come, so that a part cut short goes on with the next row when it is called again."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

LIMIT_S = 440.0
"""Of one call, so that it ends within eight minutes with what the start of the machine takes."""


class Kept:
    """Hold a part's rows by name; what `earlier` folders hold of it is taken over.

    Args:
        out: folder of the file to write.
        name: of the file, without its ending.
        earlier: folders that may hold the file of an earlier call.
    """

    def __init__(self, out: Path, name: str, earlier: Iterable[Path] = ()) -> None:
        self.path = out / f"{name}.json"
        self.rows: dict[str, dict[str, Any]] = {}
        self.head: dict[str, Any] = {}
        out.mkdir(parents=True, exist_ok=True)
        for folder in (*earlier, out):
            self._take_over(folder / self.path.name)

    def add(self, name: str, row: dict[str, Any]) -> None:
        """Keep one row, whole or not at all."""
        self.rows[name] = row
        self.write()

    def write(self, **head: Any) -> None:
        """Write the file; `head` stands before the rows."""
        self.head |= head
        temporary = self.path.with_suffix(".part")
        temporary.write_text(json.dumps({**self.head, "rows": self.rows}, indent=1) + "\n")
        temporary.replace(self.path)

    def _take_over(self, path: Path) -> None:
        if not path.is_file():
            return
        told = json.loads(path.read_text())
        self.rows |= told.pop("rows", {})
        self.head |= told


def still_to_do(
    names: Iterable[str], kept: Kept, limit_s: float = LIMIT_S, clock: Callable[[], float] = time.monotonic
) -> Iterator[str]:
    """Yield the names without a row while time is left for one as long as the longest so far."""
    began, longest = clock(), 0.0
    for name in names:
        if name in kept.rows:
            continue
        now = clock()
        if longest and now - began + longest > limit_s:
            return
        yield name
        longest = max(longest, clock() - now)


def out_folder(given: Path | None, smoke: bool) -> tuple[Path, tuple[Path, ...]]:  # noqa: FBT001
    """Return where to write and what to take over; a smoke run keeps to itself."""
    results = Path(__file__).resolve().parents[1] / "results"
    out = given or Path(os.environ.get("OUT") or results)
    return out, () if smoke else (results,)
