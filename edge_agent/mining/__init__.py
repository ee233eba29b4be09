"""Choose the frames worth a person's time."""

from __future__ import annotations

from edge_agent.mining.rules import MiningRule, NothingSeen, RandomFloor, SeenFrame, UncertainScore
from edge_agent.mining.verdict import Miner

__all__ = ["Miner", "MiningRule", "NothingSeen", "RandomFloor", "SeenFrame", "UncertainScore"]
