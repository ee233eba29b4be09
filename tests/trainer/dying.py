"""Let a training child die by SIGKILL, or stand still, at an exact place: right after it said an event, once.

A parent that kills what it follows kills somewhere later, for the child runs on meanwhile. So the child does
it itself: `dies_after` and `stands_still_after` put this module in place of the real child's, and everything else stays real.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from trainer import backend
from trainer.backend_job import BackendEvent, BackendJob, ExportJob

_ORDER = "WHETSTONE_TEST_DIES"


@dataclass(frozen=True, slots=True)
class Death:
    """Watch for one ordered death."""

    mark: Path

    @property
    def fired(self) -> bool:
        """Tell whether it has come."""
        return self.mark.is_file()

    @property
    def lasts(self) -> bool:
        """Tell whether the process that had the order is still there."""
        return self.fired and psutil.pid_exists(json.loads(self.mark.read_text())[0])

    @property
    def together(self) -> int:
        """Return how many processes trained together when one of them died, that one included."""
        return len(json.loads(self.mark.read_text()))

    @property
    def siblings(self) -> list[psutil.Process]:
        """Return those of them whose names are still in use."""
        return [psutil.Process(pid) for pid in json.loads(self.mark.read_text()) if psutil.pid_exists(pid)]


def dies_after(monkeypatch: pytest.MonkeyPatch, mark: Path, kind: str, epoch: int) -> Death:
    """Have the first child that says such an event die right after it; later ones live."""
    return _ordered(monkeypatch, mark, kind, epoch, "die")


def stands_still_after(monkeypatch: pytest.MonkeyPatch, mark: Path, kind: str, epoch: int) -> Death:
    """Have the first child that says such an event do nothing ever after; later ones go on."""
    return _ordered(monkeypatch, mark, kind, epoch, "stand")


def _ordered(monkeypatch: pytest.MonkeyPatch, mark: Path, kind: str, epoch: int, how: str) -> Death:
    real = backend._command

    def command(job: BackendJob | ExportJob) -> list[str]:
        python, _, module, *rest = real(job)
        return [python, "-m", "tests.trainer.dying", module, *rest]

    monkeypatch.setattr(backend, "_command", command)
    monkeypatch.setenv(_ORDER, json.dumps([kind, epoch, str(mark), how]))
    return Death(mark)


def _die_in_place_of(module: Any) -> None:
    kind, epoch, mark, how = json.loads(os.environ[_ORDER])
    say = module._Emitter.__call__

    def said(self: Any, event: BackendEvent) -> None:
        say(self, event)
        if (event.kind, event.epoch) == (kind, epoch) and not Path(mark).exists():
            parent = psutil.Process().parent()
            others = [one.pid for one in parent.children() if one.pid != os.getpid()] if parent else []
            together = [os.getpid(), *others]
            # Whole at once: the parent reads it while this process still stands.
            Path(f"{mark}.part").write_text(json.dumps(together))
            Path(f"{mark}.part").rename(mark)
            while how == "stand":
                time.sleep(60.0)
            os.kill(os.getpid(), signal.SIGKILL)

    module._Emitter.__call__ = said


def main(arguments: list[str]) -> int:
    """Be the child, or the processes of several devices, that was ordered."""
    from trainer.ultralytics_backend import child, several

    if arguments[0].endswith("several"):
        several._CHILD = "tests.trainer.dying"
        return several.main(arguments[1:])
    # torchrun names no module
    rest = arguments[1:] if arguments[0].startswith("trainer.") else arguments
    _die_in_place_of(child)
    return child.main(rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
