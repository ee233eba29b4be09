"""Ask jetson-stats for temperatures and power, where it is installed and its service runs."""

from __future__ import annotations

import importlib
import logging
from typing import Any

from edge_agent.care.machine import Machine, read_temperatures

logger = logging.getLogger("whetstone.edge.care")


class Sensors:
    """Read the machine's sensors: jetson-stats if it answers, else the kernel's thermal zones.

    jetson-stats keeps a thread and a socket of its own, so it is opened once; one that fails later is let go.
    """

    def __init__(self) -> None:
        self._jtop = _open_jtop()

    def read(self) -> Machine:
        """Return what the sensors say now."""
        if self._jtop is not None:
            try:
                return machine_of(self._jtop)
            except Exception as error:  # noqa: BLE001 - a foreign service; the kernel's zones are still there
                logger.warning("care.jtop-failed %s", error)
                self.close()
        return Machine(read_temperatures())

    def close(self) -> None:
        """Let the service go."""
        jtop, self._jtop = self._jtop, None
        if jtop is not None:
            jtop.close()


def machine_of(jtop: Any) -> Machine:
    """Read what jetson-stats says; its values differ between boards, and what is no number is left out."""
    temperatures = {
        str(name): float(value["temp"])
        for name, value in dict(jtop.temperature).items()
        if value.get("online", True) and float(value["temp"]) > -40.0
    }
    power = dict(jtop.power)
    rails = {str(name): rail["power"] / 1000.0 for name, rail in dict(power.get("rail", {})).items()}
    total = power.get("tot", {}).get("power")
    if total is not None:
        rails["total"] = total / 1000.0
    return Machine(temperatures, rails, str(jtop.nvpmodel or ""))


def _open_jtop() -> Any:
    try:
        jtop = importlib.import_module("jtop")
    except ImportError:
        return None
    try:
        opened = jtop.jtop()
        opened.start()
    except Exception as error:  # noqa: BLE001 - its service is off or of another version; that is no fault of ours
        logger.info("care.jtop-absent %s", error)
        return None
    return opened if opened.ok() else None
