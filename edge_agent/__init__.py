"""Run on the factory box: camera, loop, mining, outbox, upload, reports and over-the-air updates.

The data's way through this room: `sources` -> `loop` -> `parts` and `mining` -> `outbox` -> `upload`
-> (cloud) -> receipt. The other way round, `ota` puts a proven model into the `model_slot`, and the loop
takes it between two frames. `agent` wires the parts, `main` is the command line.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def agent_version() -> str:
    """Return the installed version, or `0.1.0` where the package runs from a plain folder."""
    try:
        return version("whetstone-edge")
    except PackageNotFoundError:
        return "0.1.0"
