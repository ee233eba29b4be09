"""Answer one call of an installation: look, launch, status, logs, terminate, list."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, BinaryIO

from flows.gpus.ssh.there import guarding, hardware, starting
from flows.gpus.ssh.there.places import Place, Refused, end, is_running, living

MARK = "whetstone-answer "
"""Before the answer: a login shell may have written something of its own."""
LOG_BYTES = 256 * 1024


def main(stream: BinaryIO) -> None:
    """Read one request whole, do it, print the answer; a half one does nothing."""
    request = json.loads(_read(stream, int(stream.readline())))
    folder = Path.home() / request["folder"]
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        answer = {"done": _do(folder, request, stream)}
    except Refused as error:
        answer = {"refused": str(error)}
    except OSError as error:
        answer = {"failed": str(error)}
    sys.stdout.write(MARK + json.dumps(answer) + "\n")
    sys.stdout.flush()


def _do(folder: Path, request: dict[str, Any], stream: BinaryIO) -> Any:
    what = request["do"]
    if what == "look":
        prepared = starting.has(request["modules"])
        return {**hardware.look(folder), "prepared": prepared, "busy": [one.tag for one in living(folder)]}
    if what == "launch":
        return starting.launch(folder, request)
    if what == "source":
        return starting.take_source(folder, request["source"], _read(stream, request["size"]))
    if what == "list":
        _revive_guards(folder)
        return [one.tag for one in living(folder)]
    place = Place(folder, request["tag"])
    return {"status": _status, "logs": _logs, "terminate": _terminate}[what](place)


def _status(place: Place) -> dict[str, str]:
    made = place.read("machine")
    if made is None:
        return {"state": "gone", "detail": ""}
    guarding.revive(place)
    if is_running(place):
        return {"state": "running", "detail": f"process {made['pid']}"}
    ended = place.read("ended") or {"why": "its process is gone"}
    return {"state": "ended", "detail": str(ended["why"])}


def _logs(place: Place) -> str:
    try:
        with (place.path / "trainer.log").open("rb") as file:
            file.seek(0, 2)
            file.seek(max(file.tell() - LOG_BYTES, 0))
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


def _terminate(place: Place) -> None:
    if place.read("machine") is None or (place.read("guard") or {}).get("done"):
        return
    guarding.revive(place)
    guarding.end_after_boot(place)
    if is_running(place):
        place.write_once("ended", {"why": "terminated"})
    end(place, guarding.STOP_SECONDS)


def _revive_guards(folder: Path) -> None:
    for place in living(folder):
        guarding.revive(place)


def _read(stream: BinaryIO, size: int) -> bytes:
    content = stream.read(size)
    if len(content) != size:
        raise SystemExit("the request did not arrive whole; nothing was done")
    return content
