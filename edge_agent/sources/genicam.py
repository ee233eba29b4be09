"""Read a GenICam camera through `harvesters` and its maker's GenTL producer; used in the child process only.

No camera and no producer was at hand when this was written: it was tested against `genicam_twin`, which has
the interface of harvesters 1.4 that is used here, and never against hardware. `genicam:simulator#<serial>`
opens the twin.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from edge_agent.errors import SourceError
from edge_agent.optional import optional
from edge_agent.sources.base import Image
from edge_agent.sources.grab import SourceJob, mismatch

FETCH_S = 0.5
SIMULATOR = "simulator"
# GenICam names a Bayer pattern by its first two pixels, OpenCV by the two below them and to the right.
COLOURS: dict[str, int] = {
    "Mono": cv2.COLOR_GRAY2BGR,
    "BayerRG": cv2.COLOR_BayerBG2BGR,
    "BayerGR": cv2.COLOR_BayerGB2BGR,
    "BayerGB": cv2.COLOR_BayerGR2BGR,
    "BayerBG": cv2.COLOR_BayerRG2BGR,
    "RGB": cv2.COLOR_RGB2BGR,
}


class GenicamGrabber:
    """Be the driver of `genicam:<path of the .cti file>#<serial>`; without a serial, the first camera."""

    def __init__(self, job: SourceJob) -> None:
        self._job = job
        self._producer, _, self._serial = job.target.partition("#")
        self._harvester: Any = None
        self._camera: Any = None
        self._buffer: Any = None

    def open(self) -> tuple[str, ...]:
        """Load the producer and start the camera.

        Raises:
            ConfigError: harvesters is not installed.
            SourceError: no such producer or camera, or it is in use.
        """
        self._harvester = _library(self._producer)()
        try:
            self._harvester.add_file(self._producer)
            self._harvester.update()
            self._camera = self._harvester.create({"serial_number": self._serial} if self._serial else 0)
            otherwise = self._ask(self._camera.remote_device.node_map)
            self._camera.start()
        except Exception as error:  # producers raise what they like
            raise SourceError(
                expected="a GenICam camera",
                got=f"{type(error).__name__}: {error}"[:300],
                where=self._job.target,
                now="Check the path of the .cti file, the serial number and who else uses the camera.",
            ) from error
        return otherwise

    def grab(self) -> bool:
        """Wait for the next whole buffer."""
        self._release()
        while self._buffer is None:
            self._buffer = self._camera.try_fetch(timeout=FETCH_S)
        return True

    def retrieve(self, into: Image | None) -> Image | None:
        """Convert the buffer's first component to BGR.

        Raises:
            SourceError: a pixel format that is not read here.
        """
        part = self._buffer.payload.components[0]
        shape = (int(part.height), int(part.width))
        try:
            return to_bgr(np.asarray(part.data), shape, str(part.data_format), into)
        finally:
            self._release()

    def skip(self) -> None:
        """Give the buffer back."""
        self._release()

    def close(self) -> None:
        """Stop the camera, in the order producers want it."""
        self._release()
        if self._camera is not None:
            self._camera.stop()
            self._camera.destroy()
            self._camera = None
        if self._harvester is not None:
            self._harvester.reset()
            self._harvester = None

    def _release(self) -> None:
        if self._buffer is not None:
            self._buffer.queue()
            self._buffer = None

    def _ask(self, nodes: Any) -> tuple[str, ...]:
        """Set what the configuration fixes, the format first, and read it back."""
        asked = {
            "PixelFormat": self._job.pixel_format,
            "Width": self._job.width,
            "Height": self._job.height,
            "AcquisitionFrameRate": self._job.fps,
        }
        return tuple(words for name, value in asked.items() if value for words in _set(nodes, name, value))


def to_bgr(data: Image, shape: tuple[int, int], pixel_format: str, into: Image | None) -> Image:
    """Convert a camera's pixels to BGR of 8 bits; `shape` is height and width.

    Raises:
        SourceError: a pixel format that is not read here.
    """
    name = pixel_format.rstrip("0123456789")
    bits = pixel_format[len(name) :]
    if (name not in COLOURS and name != "BGR") or bits not in ("8", "10", "12", "16"):
        raise SourceError(
            expected="Mono, Bayer, RGB or BGR of 8, 10, 12 or 16 bits, not packed",
            got=pixel_format,
            where="camera.pixel_format",
            now="Set camera.pixel_format to one of them, such as BayerRG8.",
        )
    if bits != "8":
        data = (data >> (int(bits) - 8)).astype(np.uint8)
    image = data.reshape(*shape, 3) if name in ("RGB", "BGR") else data.reshape(shape)
    fits = into is not None and into.shape == (*shape, 3)
    if name == "BGR":
        target = into if into is not None and fits else np.empty((*shape, 3), np.uint8)
        np.copyto(target, image)
        return target
    return cv2.cvtColor(image, COLOURS[name], into) if fits else cv2.cvtColor(image, COLOURS[name])


def _set(nodes: Any, name: str, value: object) -> tuple[str, ...]:
    try:
        node = getattr(nodes, name)
        node.value = value
        got = node.value
    except Exception as error:  # noqa: BLE001 - a node may be missing, locked or out of range, each its own error
        return (mismatch(name, value, f"{type(error).__name__}: {error}"[:120]),)
    return () if got == value else (mismatch(name, value, got),)


def _library(producer: str) -> Any:
    """Return the class that holds producers: harvesters' own, or its twin."""
    if producer == SIMULATOR:
        from edge_agent.sources.genicam_twin import Harvester

        return Harvester
    return optional("harvesters.core", "a GenICam camera", "genicam").Harvester
