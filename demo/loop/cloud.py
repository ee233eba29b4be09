"""Give the demo's installation a simulated cloud to train on, before its services read their settings."""

from __future__ import annotations

from pathlib import Path

from demo.errors import DemoError
from flows.gpus.settings import SimulatedSection
from flows.settings import FILE_NAME, Settings, load_settings, write_settings

NAME = "simulated"
INSTALLATION = "demo"


def found_installation(folder: Path, cloud: SimulatedSection | None) -> None:
    """Write the settings of a new folder; those of an old one stand.

    Raises:
        DemoError: the folder's demo trains elsewhere.
    """
    path = folder / FILE_NAME
    if path.is_file():
        known = load_settings(folder).providers.get(NAME)
        if known != cloud:
            raise DemoError(
                expected=_words(known),
                got=_words(cloud),
                where=str(path),
                now="Go on as it was begun, give another --folder, or remove this one.",
            )
    elif cloud is not None:
        wanted = Settings(installation=INSTALLATION, train_here=False, providers={NAME: cloud})
        write_settings(folder, wanted)


def _words(cloud: object) -> str:
    return "a demo that trains on this machine" if cloud is None else "a demo on a simulated cloud"
