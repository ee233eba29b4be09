"""Be a driver with cards that are not there: for tests, and for trying out what an unfit machine does.

    >>> from tempfile import mkdtemp
    >>> file = describe(Path(mkdtemp()) / "driver.json", SimulatedCard("Tesla T4", 15_360))
    >>> answer_of(file)["cards"][0]["name"]
    'Tesla T4'

Whoever sets WHETSTONE_SIMULATED_DRIVER to such a file has it asked in place of the real driver.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_MIB = 2**20


@dataclass(frozen=True, slots=True)
class SimulatedCard:
    """Describe a card; `free_mib` None means that nobody else is on it."""

    name: str
    memory_mib: int
    free_mib: int | None = None
    capability: tuple[int, int] | None = None


def describe(
    file: Path, *cards: SimulatedCard, version: str = "595.10", cuda: tuple[int, int] = (13, 2), **faults: Any
) -> Path:
    """Write a driver's description and return its file.

    Args:
        file: where.
        cards: what it lists.
        version: its own.
        cuda: the newest CUDA version it serves.
        faults: `error` (it does not answer), `cuda_error` (CUDA does not start), `usable` (cards CUDA can
            start), `hangs` (seconds before any answer).
    """
    content = {"version": version, "cuda": cuda, "cards": [asdict(one) for one in cards], **faults}
    file.write_text(json.dumps(content))
    return file


def answer_of(file: Path) -> dict[str, Any]:
    """Return what the described driver answers."""
    told: dict[str, Any] = json.loads(file.read_text())
    time.sleep(float(told.pop("hangs", 0.0)))
    if told.get("error"):
        return {"error": told["error"]}
    cards = [_card(one) for one in told["cards"]]
    return {"usable": len(cards), **told, "cards": cards}


def _card(told: dict[str, Any]) -> dict[str, Any]:
    free = told["memory_mib"] if told["free_mib"] is None else told["free_mib"]
    return {
        "name": told["name"],
        "total_bytes": told["memory_mib"] * _MIB,
        "free_bytes": free * _MIB,
        "capability": told["capability"],
    }
