"""Remember in the folder how far the demo came, so that a killed demo goes on where it was.

Everything else that must survive lies where it belongs: samples in the bucket, runs in the database,
frames and truth in the lines' folders. Here are only the moments the report needs.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from demo.errors import DemoError
from fleet_contracts import utc_now
from flows.files import write_file

FILE_NAME = "state.json"


class DemoState(BaseModel):
    """Hold the moments of one demo; None is not yet."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    """`line` or `images`; a folder is used for one of them."""
    seed: int = 0
    starts: int = 0
    """How often the demo was started in this folder."""
    first_frame_at: datetime | None = None
    changed_at: datetime | None = None
    class_added_at: datetime | None = None
    triggered_at: datetime | None = None
    served_at: datetime | None = None
    base_version: int | None = None
    """Release the boxes began with."""
    new_version: int | None = None


class StateFile:
    """Read and write the state in the demo's own folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME

    def begin(self, kind: str, seed: int) -> DemoState:
        """Open the state and count this start.

        Raises:
            DemoError: the folder belongs to a demo of another kind or seed.
        """
        state = self.read() or DemoState(kind=kind, seed=seed)
        if (state.kind, state.seed) != (kind, seed):
            raise DemoError(
                expected=f"a folder of the demo '{kind}' with seed {seed}",
                got=f"one of '{state.kind}' with seed {state.seed}",
                where=str(self._path),
                now="Give another --folder, or remove this one.",
            )
        return self.write(state.model_copy(update={"starts": state.starts + 1}))

    def read(self) -> DemoState | None:
        """Return the state, None in a new folder."""
        if not self._path.is_file():
            return None
        return DemoState.model_validate_json(self._path.read_bytes())

    def write(self, state: DemoState) -> DemoState:
        """Keep a state and return it."""
        write_file(self._path, state.model_dump_json(indent=1).encode())
        return state

    def mark(self, state: DemoState, moment: str, **more: int) -> DemoState:
        """Note that a moment has come, now; one that came before stays."""
        if getattr(state, moment) is not None:
            return state
        return self.write(state.model_copy(update={moment: utc_now(), **more}))
