"""Make the providers of an installation: this machine, and what `[providers.<name>]` names."""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from flows.errors import SettingsError
from flows.gpus.base import GpuProvider
from flows.gpus.local import NAME as THIS_MACHINE
from flows.gpus.local import LocalProvider

if TYPE_CHECKING:
    from flows.settings import Settings

log = logging.getLogger("whetstone.gpus")

MADE_BY = {
    "ssh": "flows.gpus.ssh.provider:SshProvider",
    "dstack": "flows.gpus.dstack.provider:DstackProvider",
    "skypilot": "flows.gpus.skypilot.provider:SkypilotProvider",
    "autodl-pro": "flows.gpus.autodl.pro:AutodlProProvider",
    "autodl-elastic": "flows.gpus.autodl.elastic:AutodlElasticProvider",
    "pai-dlc": "flows.gpus.pai_dlc.provider:PaiDlcProvider",
    "modelarts": "flows.gpus.modelarts.provider:ModelArtsProvider",
    "simulated": "flows.gpus.simulated.provider:SimulatedProvider",
}
"""Class of each kind; made with (name, section, installation, folder)."""


def each_apart(folder: Path, settings: Settings) -> tuple[dict[str, GpuProvider], dict[str, str]]:
    """Return whom this installation may rent from, by the name leases carry, and why others cannot be made.

    One whose package is missing or whose section is wrong must not keep anybody from the others.
    """
    local = LocalProvider(folder, hidden=_token_variables(settings))
    found: dict[str, GpuProvider] = {local.name: local}
    broken: dict[str, str] = {}
    for name in settings.providers:
        try:
            found[name] = _made(name, folder, settings)
        except Exception as error:  # noqa: BLE001 - a missing package as well as a wrong section
            log.error("gpus.provider_not_made provider=%s error=%r", name, error)
            broken[name] = f"it could not be set up: {error}"
    return found, broken


def _made(name: str, folder: Path, settings: Settings) -> GpuProvider:
    if not settings.installation:
        raise SettingsError(
            expected="a name of this installation, which its machines are known by",
            got="providers and no name",
            where="whetstone.toml: installation",
            now='Write installation = "..." at its top, different from every other one on the same account.',
        )
    if name == THIS_MACHINE:
        raise SettingsError(
            expected="a name that is free", got=name, where="whetstone.toml: providers",
            now="Call the provider by another name.",
        )  # fmt: skip
    section = settings.providers[name]
    module, _, kind = MADE_BY[section.kind].partition(":")
    cls = getattr(importlib.import_module(module), kind)
    made: GpuProvider = cls(name, section, settings.installation, folder)
    return made


def _token_variables(settings: Settings) -> set[str]:
    """Return the environment variables that hold providers' tokens."""
    places = (getattr(section, "token", None) or "" for section in settings.providers.values())
    return {place.removeprefix("env:") for place in places if place.startswith("env:")}
