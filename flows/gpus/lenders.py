"""Make every provider an installation names, each by itself, and again when its settings change.

A provider that is added while a reaper runs has to be looked after from then on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from fleet_contracts.training import Lease
from flows.errors import FlowsError
from flows.gpus.base import GpuProvider
from flows.gpus.providers import each_apart
from flows.gpus.reaper import Round
from flows.settings import FILE_NAME, Settings, load_settings

log = logging.getLogger("whetstone.gpus")


class Lenders:
    """Hold the providers of an installation as its settings are now."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read = 0
        self._made: dict[str, GpuProvider] = {}
        self._failed: tuple[Round, ...] = ()

    def now(self) -> Mapping[str, GpuProvider]:
        """Return the providers by name; settings that cannot be read leave those of before."""
        try:
            changed = (self._folder / FILE_NAME).stat().st_mtime_ns
            if changed != self._read:
                self._make(load_settings(self._folder))
                self._read = changed
        except (FlowsError, OSError) as error:
            if not self._made:
                raise
            log.error("gpus.settings_not_read folder=%s error=%s", self._folder, error)
        return self._made

    def failed(self) -> tuple[Round, ...]:
        """Return a round for each provider that could not be made: nothing of it can be looked after."""
        return self._failed

    def _make(self, settings: Settings) -> None:
        self._made, broken = each_apart(self._folder, settings)
        self._failed = tuple(_locked_out(name, why) for name, why in broken.items())


def left_alone(live: Iterable[Lease], known: Iterable[str]) -> tuple[Round, ...]:
    """Return a round for each provider that has live leases and that nobody looks after any more; pure."""
    names = set(known)
    lost: dict[str, list[str]] = {}
    for lease in live:
        if lease.provider not in names:
            lost.setdefault(lease.provider, []).append(f"{lease.lease_id} ({lease.machine or 'no machine'})")
    why = "the settings name no such provider, and these leases of it live: "
    return tuple(_locked_out(name, why + ", ".join(leases)) for name, leases in lost.items())


def _locked_out(name: str, why: str) -> Round:
    return Round(name, answered=False, locked_out=True, trouble=why)
