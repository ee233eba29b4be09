"""Be an agent in a process of its own, with real broker, store, disk and folder, and a model made up here.

    python -m tests.edge_agent.agent_process CONFIG

The model finds nothing in dark pictures and something certain in light ones, so dark ones are hard.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from detection.detections import Detections
from edge_agent import main as command
from edge_agent.config import load_config
from edge_agent.logs import log_to_stderr
from edge_agent.still_updater import StillUpdater
from edge_agent.world import World, real_world
from tests.edge_agent.builders import boxes, model_of

DARK_BELOW = 128


def find_in_light(canvas: np.ndarray) -> Detections:
    """Find a certain scratch in a light picture and nothing in a dark one."""
    return boxes((0.9, 0)) if float(canvas.mean()) >= DARK_BELOW else boxes()


def made_up_world(version: int = 1) -> World:
    """Return the real world with an updater that serves the made-up model."""
    world = real_world()
    return replace(
        world, updater=lambda config, slot, events: StillUpdater(slot, model_of(version, find_in_light))
    )


def run(path: Path, world: Callable[[], World] = made_up_world) -> int:
    """Run the daemon as the command does."""
    output = log_to_stderr("INFO")
    try:
        return command.run(load_config(path), world())
    finally:
        output.close()


if __name__ == "__main__":
    raise SystemExit(run(Path(sys.argv[1])))
