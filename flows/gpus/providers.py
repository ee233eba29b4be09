"""Make the providers of an installation: this machine, and what `[providers.<name>]` names."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from flows.errors import SettingsError
from flows.gpus.base import GpuProvider
from flows.gpus.local import LocalProvider

if TYPE_CHECKING:
    from flows.settings import Settings

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


def providers(folder: Path, settings: Settings) -> dict[str, GpuProvider]:
    """Return every provider this installation may rent from, by the name leases carry.

    Raises:
        SettingsError: providers are named and the installation is not, or a kind's package is missing.
    """
    local = LocalProvider(folder, hidden=_token_variables(settings))
    found: dict[str, GpuProvider] = {local.name: local}
    if settings.providers and not settings.installation:
        raise SettingsError(
            expected="a name of this installation, which its machines are known by",
            got="providers and no name",
            where="whetstone.toml: installation",
            now='Write installation = "..." at its top, different from every other one on the same account.',
        )
    for name, section in settings.providers.items():
        if name == local.name:
            raise SettingsError(
                expected="a name that is free", got=name, where="whetstone.toml: providers",
                now="Call the provider by another name.",
            )  # fmt: skip
        module, _, kind = MADE_BY[section.kind].partition(":")
        made = getattr(importlib.import_module(module), kind)
        found[name] = made(name, section, settings.installation, folder)
    return found


def _token_variables(settings: Settings) -> set[str]:
    """Return the environment variables that hold providers' tokens."""
    places = (getattr(section, "token", None) or "" for section in settings.providers.values())
    return {place.removeprefix("env:") for place in places if place.startswith("env:")}
