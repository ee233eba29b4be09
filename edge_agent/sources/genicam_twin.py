"""Be `harvesters` without a camera: the part of its interface that `genicam.py` uses, and its rules.

Like the real one, a camera must not be used after `destroy`, a buffer not after `queue`, and a stream whose
buffers are not given back runs dry.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

SERIAL = "SIM-1"
BUFFERS = 4


@dataclass
class Node:
    """Hold one setting; `most` bounds a number."""

    held: Any
    most: float = 0.0

    @property
    def value(self) -> Any:
        """Return the setting."""
        return self.held

    @value.setter
    def value(self, value: Any) -> None:
        self.held = min(value, self.most) if self.most else value


@dataclass
class NodeMap:
    """Hold the settings a camera has."""

    Width: Node = field(default_factory=lambda: Node(64, 128))
    Height: Node = field(default_factory=lambda: Node(48, 96))
    PixelFormat: Node = field(default_factory=lambda: Node("BayerRG8"))
    AcquisitionFrameRate: Node = field(default_factory=lambda: Node(50.0, 100.0))


@dataclass
class RemoteDevice:
    """Hold the camera's side."""

    node_map: NodeMap = field(default_factory=NodeMap)


@dataclass
class Component:
    """Hold one picture as the camera sends it."""

    data: NDArray[Any]
    width: int
    height: int
    data_format: str


@dataclass
class Payload:
    """Hold the pictures of a buffer."""

    components: list[Component]


class Buffer:
    """Be a buffer that belongs to the stream again after `queue`."""

    def __init__(self, camera: ImageAcquirer, component: Component) -> None:
        self._camera = camera
        self._payload: Payload | None = Payload([component])

    @property
    def payload(self) -> Payload:
        """Return the pictures."""
        if self._payload is None:
            raise RuntimeError("a buffer was used after it was queued")
        return self._payload

    def queue(self) -> None:
        """Give the buffer back."""
        self._payload = None
        self._camera.out -= 1


class ImageAcquirer:
    """Be a camera that draws a red square wandering over grey."""

    def __init__(self) -> None:
        self.remote_device = RemoteDevice()
        self.out = 0
        self._runs = False
        self._destroyed = False
        self._count = 0

    def start(self) -> None:
        """Begin to send."""
        self._check()
        self._runs = True

    def stop(self) -> None:
        """End sending."""
        self._check()
        self._runs = False

    def destroy(self) -> None:
        """Let go of the camera; nothing may be called behind it."""
        self._check()
        self._destroyed = True

    def try_fetch(self, *, timeout: float = 0) -> Buffer | None:
        """Return the next buffer, or None when none is free or came in time."""
        self._check()
        nodes = self.remote_device.node_map
        period = 1.0 / float(nodes.AcquisitionFrameRate.value)
        if not self._runs or self.out >= BUFFERS or period > timeout > 0:
            time.sleep(timeout)
            return None
        time.sleep(period)
        self.out += 1
        self._count += 1
        width, height, name = int(nodes.Width.value), int(nodes.Height.value), str(nodes.PixelFormat.value)
        return Buffer(self, Component(_draw(width, height, name, self._count), width, height, name))

    def _check(self) -> None:
        if self._destroyed:
            raise RuntimeError("a camera was used after it was destroyed")


class Harvester:
    """Hold producers and cameras."""

    def __init__(self) -> None:
        self._files: list[str] = []
        self._known = False

    def add_file(self, path: str) -> None:
        """Load a producer."""
        self._files.append(path)

    def update(self) -> None:
        """Look for cameras."""
        self._known = bool(self._files)

    def create(self, search_key: int | dict[str, str]) -> ImageAcquirer:
        """Open a camera by its number or what identifies it."""
        wanted = search_key.get("serial_number", SERIAL) if isinstance(search_key, dict) else SERIAL
        if not self._known or wanted != SERIAL:
            raise ValueError(f"no camera matches {search_key}")
        return ImageAcquirer()

    def reset(self) -> None:
        """Let go of everything."""
        self._files, self._known = [], False


def _draw(width: int, height: int, name: str, count: int) -> NDArray[Any]:
    """Draw red pixels in the given format, one after another; the data are flat as the real ones are."""
    colours = np.full((height, width, 3), 90, np.uint8)
    left = count % max(width - 16, 1)
    colours[8:24, left : left + 16] = (220, 20, 20)
    if name.startswith("RGB"):
        return colours.reshape(-1)
    if name.startswith("BGR"):
        return colours[..., ::-1].reshape(-1)
    if name.startswith("Bayer"):
        mosaic: NDArray[Any] = colours[..., 1].copy()
        order = {"RG": (0, 0), "GR": (0, 1), "GB": (1, 0), "BG": (1, 1)}[name[5:7]]
        mosaic[order[0] :: 2, order[1] :: 2] = colours[order[0] :: 2, order[1] :: 2, 0]
        mosaic[1 - order[0] :: 2, 1 - order[1] :: 2] = colours[1 - order[0] :: 2, 1 - order[1] :: 2, 2]
        return mosaic.reshape(-1)
    plain: NDArray[Any] = colours.max(axis=2)
    if name.endswith("10"):
        plain = plain.astype(np.uint16) << 2
    return plain.reshape(-1)
