"""Install two releases with the power cut at every step, one life per step, each from an empty folder.

    python -m tests.edge_agent.power_cut.ota_cuts FOLDER

Runs with the shim loaded; writes one JSON line per life: what was done before the cut, and what was there after it.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import sys
from pathlib import Path

from edge_agent.ota.disk import Disk
from edge_agent.ota.slots import Slots
from tests.edge_agent.power_cut.harness import PowerSupply


def model_of(version: int) -> bytes:
    """Return what stands for a release's model."""
    return f"model of release {version}".encode() * 500


def live(data: Path, told: int) -> None:
    """Install release 1, let it prove itself, install release 2; tell of each step that is done."""
    disk = Disk()
    slots = Slots(data / "releases", disk)
    for version in (1, 2):
        folder = slots.incoming(version)
        disk.write(folder / "model.onnx", model_of(version))
        disk.write(folder / "release.json", b"{}")
        slots.install(version)
        slots.switch(version)
        os.write(told, f"switched {version}\n".encode())
        slots.confirm()
        os.write(told, f"confirmed {version}\n".encode())


def look(data: Path) -> dict[str, object]:
    """Say which release serves and whether its files and the previous one's are whole."""
    slots = Slots(data / "releases", Disk())
    now = slots.pointers()
    whole = {
        version: (slots.path(version) / "model.onnx").exists()
        and (slots.path(version) / "model.onnx").read_bytes() == model_of(version)
        and (slots.path(version) / "release.json").read_bytes() == b"{}"
        for version in {now.current, now.previous} - {0}
    }
    return {"current": now.current, "confirmed": now.confirmed, "whole": all(whole.values())}


def main() -> None:
    """Live once per step, until a life is not cut."""
    place, shim = Path(sys.argv[1]), ctypes.CDLL(None)
    for cut in range(1, 500):
        supply = PowerSupply(place, place / "data", place / "state")
        supply.begin()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            watched = (str(supply.folder).encode(), str(supply.state).encode())
            shim.power_cut_watch(*watched, ctypes.c_ulong(cut))
            live(supply.folder, writing)
            os._exit(0)
        os.close(writing)
        _, status = os.waitpid(child, 0)
        done = os.read(reading, 1000).decode().split("\n")[:-1]
        os.close(reading)
        was_cut = bool(supply.counts()["fired"])
        assert os.WIFSIGNALED(status) == was_cut, f"life {cut} failed by itself"
        supply.cut()
        sys.stdout.write(json.dumps({"done": done, "cut": was_cut, **look(supply.folder)}) + "\n")
        shutil.rmtree(supply.folder)
        if not was_cut:
            return


if __name__ == "__main__":
    main()
