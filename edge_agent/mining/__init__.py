"""Choose the frames worth a person's time."""

from __future__ import annotations

from edge_agent.mining.rules import NothingSeen, RandomFloor, UncertainScore
from edge_agent.mining.seen import MiningRule, Past, SeenFrame
from edge_agent.mining.verdict import Miner, MinerParts, miner_of

__all__ = [
    "Miner",
    "MinerParts",
    "MiningRule",
    "NothingSeen",
    "Past",
    "RandomFloor",
    "SeenFrame",
    "UncertainScore",
    "miner_of",
]
