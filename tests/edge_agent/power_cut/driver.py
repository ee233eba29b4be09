"""Drive an outbox in a process whose power can be cut, on commands from standard input.

    python -m tests.edge_agent.power_cut.driver

One JSON line in, one out. The first process only imports; "session" forks one that opens the outbox and answers
until it dies, which the first one tells with `{"dead": signal}`. So a session costs no import.
"""

from __future__ import annotations

import ctypes
import json
import os
from pathlib import Path
from typing import Any

from edge_agent.errors import DiskFull
from edge_agent.outbox import DiskGuard, Outbox, PartKey
from fleet_contracts.ids import sample_id_of
from fleet_contracts.samples import Reason
from tests.edge_agent.builders import example_of

COUNT = {"kept.test": 1}


def picture_of(number: int, size: int) -> bytes:
    """Return bytes that stand for an image; the outbox does not look into them."""
    return (f"{number:08d}" * (size // 8 + 1)).encode()[:size]


def receive() -> dict[str, Any] | None:
    """Read one command; None at the end."""
    line = b""
    while not line.endswith(b"\n"):
        more = os.read(0, 1 << 20)
        if not more:
            return None
        line += more
    return dict(json.loads(line))


def answer(**words: Any) -> None:
    """Write one answer."""
    os.write(1, json.dumps(words).encode() + b"\n")


class Session:
    """Hold the open outbox of one process."""

    def __init__(self, folder: str, state: str, quota: int) -> None:
        self._shim = ctypes.CDLL(None)
        self._shim.power_cut_watch(folder.encode(), state.encode(), ctypes.c_ulong(0))
        self.folder, self.quota = Path(folder), quota
        self.outbox: Outbox | None = None

    def handle(self, command: dict[str, Any]) -> dict[str, Any]:
        """Do one thing, cutting the power at its `cut`-th step if that is not 0."""
        self._shim.power_cut_next(ctypes.c_ulong(command.get("cut", 0)))
        done = getattr(self, command["do"])(**command.get("with", {}))
        self._shim.power_cut_next(ctypes.c_ulong(0))
        return {"done": done}

    def open(self) -> int:
        self.outbox = Outbox(self.folder / "outbox", DiskGuard(self.quota, 0), clock=lambda: 0.0)
        return self.outbox.recovered

    def add(self, number: int, size: int, value: float) -> str:
        assert self.outbox is not None
        image = picture_of(number, size)
        example = example_of(image, part=f"part-{number}", rule="test")
        example = example.model_copy(update={"reasons": (Reason(rule="test", score=value),)})
        try:
            return "kept" if self.outbox.add(image, example, COUNT) else "known"
        except DiskFull:
            return "full"

    def grant(self, ids: list[str]) -> None:
        assert self.outbox is not None
        self.outbox.mark_granted(ids, "g" * 32)

    def sent(self, ids: list[str]) -> None:
        assert self.outbox is not None
        self.outbox.mark_sent(ids, 0.0)

    def receipt(self, ids: list[str]) -> int:
        assert self.outbox is not None
        return self.outbox.forget(ids, lambda deleted: {"receipts": deleted})

    def progress(self, tokens: list[str]) -> None:
        assert self.outbox is not None
        parts = [PartKey("cam0", f"part-{token}") for token in tokens]
        self.outbox.mark_done("folder:a", tokens, {"frames_inspected": len(tokens)}, parts)

    def look(self) -> dict[str, Any]:
        """Say everything the outbox holds; every file is read."""
        assert self.outbox is not None
        rows = [*self.outbox.due(10**6), *self.outbox.unanswered(10**6)]
        whole = {}
        for row in rows:
            files = self.outbox.read(row.sample_id)
            whole[row.sample_id] = files is not None and sample_id_of(files[0]) == row.sample_id
        return {
            "rows": {row.sample_id: row.value for row in rows},
            "states": {row.sample_id: row.state for row in rows},
            "whole": whole,
            "files": sorted(path.name for path in (self.folder / "outbox" / "examples").iterdir()),
            "counts": self.outbox.stored_counts(),
            "progress": sorted(self.outbox.progress("folder:a")),
            "waiting": self.outbox.waiting(),
            "bytes": self.outbox.waiting_bytes(),
        }


def serve() -> None:
    """Fork a session for each that is asked for."""
    while (command := receive()) is not None:
        child = os.fork()
        if child == 0:
            session = Session(**command["session"])
            answer(done=None)
            while (command := receive()) is not None:
                answer(**session.handle(command))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        answer(dead=os.WTERMSIG(status) if os.WIFSIGNALED(status) else -os.WEXITSTATUS(status))


if __name__ == "__main__":
    serve()
