"""Make every provider an installation names, each by itself, and again when its settings change.

One that cannot be made (its package is missing, its section is wrong) must not keep the reaper from the
others, and a provider that is added while a reaper runs has to be looked after from then on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from fleet_contracts.training import Lease
from flows.errors import FlowsError
from flows.gpus.base import GpuProvider
from flows.gpus.providers import providers
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
        made: dict[str, GpuProvider] = {}
        failed: list[Round] = []
        made.update(providers(self._folder, settings.model_copy(update={"providers": {}})))
        for name, section in settings.providers.items():
            alone = settings.model_copy(update={"providers": {name: section}})
            try:
                made[name] = providers(self._folder, alone)[name]
            except Exception as error:  # noqa: BLE001 - a missing package as well as a wrong section
                log.error("gpus.provider_not_made provider=%s error=%r", name, error)
                failed.append(_locked_out(name, f"it could not be set up: {error}"))
        self._made, self._failed = made, tuple(failed)


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
