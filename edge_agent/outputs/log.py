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
            self._tell(logging.WARNING, "output.failsafe", fields)
        elif write.shot is not None:
            shot = write.shot
            fields = {
                "output": self._name,
                "part": shot.part_id,
                "verdict": shot.verdict,
                "lane": write.point,
            }
            self._tell(logging.INFO, "output.part", fields)

    def close(self) -> None:
        """Do nothing."""

    def _tell(self, level: int, name: str, fields: dict[str, object]) -> None:
        # Name and fields once more, for a formatter that can keep them apart.
        logger.log(level, "%s %s", name, fields, extra={"whetstone_fields": (name, fields)})
