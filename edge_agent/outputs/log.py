"""Write a line to the log for every part: to set a line up by, and where people do the sorting."""

from __future__ import annotations

import logging

from edge_agent.outputs.base import LANES, Point, Write

logger = logging.getLogger("whetstone.edge.outputs")


class LogDevice:
    """Be an output that only tells."""

    points: frozenset[Point] = frozenset((*LANES, "failsafe"))

    def __init__(self, name: str) -> None:
        self._name = name

    def connect(self) -> None:
        """Do nothing: the log is always there."""

    def write(self, write: Write) -> None:
        """Tell a part's verdict when it is due, or the fail-safe state."""
        if write.point == "failsafe":
            fields: dict[str, object] = {"output": self._name, "safe": bool(write.value), "why": write.note}
            logger.warning("output.failsafe %s", fields)
        elif write.shot is not None:
            shot = write.shot
            fields = {
                "output": self._name,
                "part": shot.part_id,
                "verdict": shot.verdict,
                "lane": write.point,
            }
            logger.info("output.part %s", fields)

    def close(self) -> None:
        """Do nothing."""
