"""Check the source: that it opens, gives a frame in time, and that the frame shows something."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from edge_agent.counters import Counters
from edge_agent.doctor.context import Patient
from edge_agent.doctor.finding import Finding
from edge_agent.errors import AgentError, FrameUnreadable
from edge_agent.events import Events
from edge_agent.redaction import redact
from edge_agent.sources.base import Frame, FrameReader, Image
from edge_agent.sources.choose import SourceFolders, choose_reader
from edge_agent.sources.folder import decode_image

FIRST_FRAME_S = 20.0
BLACK_BELOW = 6.0
ADVICE = {
    "rtsp": "Look at cable, power, address and password; try the address with ffplay.",
    "rtsps": "Look at cable, power, address and password; try the address with ffplay.",
    "v4l2": "Does the device exist (ls /dev/video*)? Is the user in the group video? Does a program hold it?",
    "gst": "Run the same pipeline with gst-launch-1.0 and fakesink at its end; it says what is wrong.",
    "jetson": "Is the camera seen (ls /dev/video*; for csi: does nvargus-daemon run)?",
    "genicam": "Does the .cti file exist, and does the vendor's viewer see the camera?",
}
"""What to look at first, by kind of source."""
FLAT_BELOW = 1.0


class CameraCheck:
    """Open the source as the agent would, take one frame, let go."""

    name = "camera"

    def __init__(self, patient: Patient, wait_s: float = FIRST_FRAME_S) -> None:
        self._patient = patient
        self._camera = patient.config.camera
        self._wait_s = min(wait_s, self._camera.open_s + self._camera.stall_s)

    def check(self) -> Iterator[Finding]:
        """Give what the source gave."""
        kind, _, path = self._camera.source.partition(":")
        where = redact(self._camera.source)
        if kind == "folder":
            yield from self._folder(Path(path))
        elif self._patient.is_running:
            yield Finding(
                "ok",
                self.name,
                f"{where}: not opened, since the running agent holds it",
                "See `whetstone-agent status`, or stop the agent to check the camera.",
            )
        else:
            yield from self._open(where)

    def _folder(self, folder: Path) -> Iterator[Finding]:
        """Look at the newest image; nothing is moved aside, as the agent would with one it cannot read."""
        endings = tuple("." + one.lower() for one in self._camera.extensions)
        try:
            images = [one for one in folder.iterdir() if one.name.lower().endswith(endings)]
            newest = max(images, key=lambda one: one.stat().st_mtime, default=None)
            content = newest.read_bytes() if newest is not None else b""
        except OSError as error:
            yield Finding(
                "fail",
                self.name,
                f"folder {folder}: {error.strerror}",
                "Create or mount it, and let the agent's user read it.",
            )
            return
        if newest is None:
            yield Finding(
                "warn",
                self.name,
                f"folder {folder} holds no image yet",
                f"Let the camera's program put files there, ending in one of {', '.join(endings)}.",
            )
            return
        try:
            image = decode_image(content, where=newest.name)
        except FrameUnreadable as error:
            yield Finding(
                "fail",
                self.name,
                f"the newest file cannot be decoded: {error}",
                "Files must be written under another name, and renamed when they are whole.",
            )
            return
        yield from judge_image(image, f"folder {folder}, {len(images)} images")

    def _open(self, where: str) -> Iterator[Finding]:
        events = Events()
        try:
            with TemporaryDirectory() as quarantine:
                reader = choose_reader(
                    self._camera.model_copy(update={"trigger": None}),
                    SourceFolders(Path(quarantine), buffers=4),
                    (),
                    Counters(),
                    events,
                )
                began = time.monotonic()
                try:
                    frame, problem = self._first_frame(reader, began)
                finally:
                    reader.close()
        except AgentError as error:
            yield Finding("fail", self.name, redact(str(error)), error.diagnostics())
            return
        problems = [f"{name}: {redact(text)}" for name, text in sorted(events.problems().items())]
        if frame is None:
            found = "; ".join([f"{where}: no frame within {self._wait_s:.0f} s", *problems, *problem])
            yield Finding(
                "fail",
                self.name,
                found,
                ADVICE.get(self._camera.source.partition(":")[0], ADVICE["rtsp"]),
            )
            return
        yield from judge_image(frame.image, f"{where}: first frame after {time.monotonic() - began:.1f} s")

    def _first_frame(self, reader: FrameReader, began: float) -> tuple[Frame | None, list[str]]:
        problem: list[str] = []
        while time.monotonic() - began < self._wait_s:
            try:
                frame = reader.read(0.5)
            except AgentError as error:
                problem = [redact(str(error))]
                time.sleep(0.5)
                continue
            if frame is not None:
                return frame, []
            if reader.is_ended():
                problem = ["the source has ended"]
                break
        return None, problem


def judge_image(image: Image, where: str) -> Iterator[Finding]:
    """Say how large a picture is and whether it shows anything."""
    height, width = image.shape[:2]
    with suppress(ValueError):
        mean, spread = float(image.mean()), float(image.std())
        words = f"{where}, {width}x{height}, mean brightness {mean:.0f} of 255"
        if mean < BLACK_BELOW:
            yield Finding("fail", "camera", words + ": black", "Look at lens cap, light and exposure.")
        elif spread < FLAT_BELOW:
            yield Finding(
                "warn", "camera", words + ": every pixel alike", "Look at focus, light and exposure."
            )
        else:
            yield Finding("ok", "camera", words)
