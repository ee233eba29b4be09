"""Be an agent whose engine hangs for ever on a white picture; otherwise the agent of `agent_process`.

python -m tests.edge_agent.care.hanging_agent CONFIG
"""

from __future__ import annotations

import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np

from detection.detections import Detections
from edge_agent.still_updater import StillUpdater
from edge_agent.world import World, real_world
from tests.edge_agent.agent_process import find_in_light, run
from tests.edge_agent.builders import model_of

WHITE_ABOVE = 250


def find_or_hang(canvas: np.ndarray) -> Detections:
    """Never come back from a white picture, as a driver that hangs."""
    if float(canvas.mean()) > WHITE_ABOVE:
        threading.Event().wait()
    return find_in_light(canvas)


def world() -> World:
    """Return the real world with the model that hangs."""
    return replace(
        real_world(),
        updater=lambda config, slot, events: StillUpdater(slot, model_of(1, find_or_hang)),
    )


if __name__ == "__main__":
    raise SystemExit(run(Path(sys.argv[1]), world))
