"""Say where frames come from, how a camera is watched, and what triggers a frame."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from edge_agent.settings.base import Seconds, Section, Some
from fleet_contracts.ids import PartId

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "bmp")
SCHEMES = ("rtsp", "rtsps", "http", "https", "rtmp", "rtp", "udp", "tcp", "srt", "file")
"""Addresses FFmpeg reads."""
Pixels = Annotated[int, Field(ge=0, le=65535)]


class FaultConfig(Section):
    """Say when a picture is a fault of the camera; every check can be switched off."""

    black: bool = True
    black_mean: Annotated[float, Field(ge=0.0, le=255.0)] = 6.0
    black_max: Annotated[int, Field(ge=0, le=255)] = 24
    """A frame is black when its mean and its brightest sample both lie below these."""
    frozen_s: Seconds = 10.0
    """A live camera that shows the very same picture for so long is frozen, 0 = not checked."""
    frozen_frames: Annotated[int, Field(ge=2, le=100_000)] = 20
    """And over at least so many frames."""


class TriggerConfig(Section):
    """Say what tells that a part lies before the camera."""

    kind: Literal["mqtt", "modbus", "file"]
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """0 = the usual one: 1883 for mqtt (8883 with tls), 502 for modbus."""
    topic: str = ""
    """Of the message that is a pulse (mqtt)."""
    username: str = ""
    password_file: Path | None = None
    tls: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    unit: Annotated[int, Field(ge=0, le=255)] = 1
    table: Literal["coil", "discrete", "holding", "input"] = "discrete"
    """A bit's rising edge is a pulse; a register is a counter, each step a pulse (modbus)."""
    address: Annotated[int, Field(ge=0, le=65535)] = 0
    poll_ms: Annotated[float, Field(ge=1.0, le=1000.0)] = 5.0
    """How often the PLC is asked; a bit must stand for longer than this."""
    path: Path | None = None
    """A file each of whose lines is a pulse (file)."""
    delay_ms: Annotated[float, Field(ge=0.0, le=60_000.0)] = 0.0
    """From the pulse to the moment the part lies before the camera."""
    timeout_s: Some = 1.0
    """A part of which no frame came so long after it was due counts as missed, and is unsure."""
    away_s: Some = 2.0
    """Longest wait for an answer of broker or PLC."""

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> Self:
        if self.kind == "mqtt" and not self.topic:
            raise ValueError("a trigger of kind mqtt needs a topic")
        if self.kind == "file" and self.path is None:
            raise ValueError("a trigger of kind file needs a path")
        return self

    @property
    def real_port(self) -> int:
        """Return the port, the usual one of the kind where none was given."""
        return self.port or {"mqtt": 8883 if self.tls else 1883, "modbus": 502, "file": 0}[self.kind]


class CameraConfig(Section):
    """Say where frames come from and whether any may be skipped."""

    name: PartId = "cam0"
    source: Annotated[str, Field(min_length=1, repr=False)]
    """`folder:/path`, `video:/path`, `v4l2:/dev/video0`, `rtsp://...`, `gst:<pipeline>`, `jetson:<name>?...`,
    `genicam:<cti path>#<serial>`, or any URL FFmpeg reads."""
    mode: Literal["auto", "every", "live"] = "auto"
    """`every` skips no frame, `live` lets the newest win; `auto`: every for folder and video, else live."""
    follow: bool = True
    """Whether a folder is watched for new files or a lost stream opened again; else the daemon ends."""
    extensions: tuple[str, ...] = IMAGE_EXTENSIONS
    fps_limit: Annotated[float, Field(ge=0.0, le=1000.0)] = 0.0
    """Frames per second at most, 0 = none."""
    idle_exit_s: Seconds = 0.0
    """End the daemon when a followed folder had nothing new for so long, 0 = never."""
    credentials_file: Path | None = None
    """One line `user:password` for an `rtsp://` or `http://` source, instead of in the URL."""
    rtsp_transport: Literal["tcp", "udp"] = "tcp"
    width: Pixels = 0
    height: Pixels = 0
    """A fixed size in pixels: asked of the camera, and any other size is a fault; 0 = as it comes."""
    fps: Annotated[float, Field(ge=0.0, le=1000.0)] = 0.0
    pixel_format: Annotated[str, Field(pattern=r"^[A-Za-z0-9 _]{0,16}$")] = ""
    """Asked of a V4L2 camera in four letters (`MJPG`, `YUYV`), of a GenICam one by its name (`BayerRG8`)."""
    decode_threads: Annotated[int, Field(ge=1, le=64)] = 1
    """Of a network stream; more than one delays frames by as many."""
    open_s: Some = 15.0
    """Longest wait for a live source's first frame."""
    stall_s: Some = 5.0
    """A live source that gives no frame for so long is killed and opened again."""
    retry_max_s: Some = 30.0
    """Longest wait between two openings of a source that is away."""
    buffers: Annotated[int, Field(ge=0, le=255)] = 0
    """Frames that may be in use at once, at least as many as outbox and mining may hold and some more."""
    frames_per_part: Annotated[int, Field(ge=1, le=200)] = 1
    """Frames of one part of a live source; folders tell parts by their names."""
    faults: FaultConfig = FaultConfig()
    trigger: TriggerConfig | None = None

    @field_validator("source")
    @classmethod
    def _scheme_is_known(cls, source: str) -> str:
        scheme, separator, _ = source.partition("://")
        if separator and " " not in scheme and scheme.lower() not in SCHEMES:
            near = difflib.get_close_matches(scheme.lower(), SCHEMES, n=2)
            hint = f" (did you mean {' or '.join(near)}?)" if near else ""
            # The rest of an address may carry a password, so it is not said.
            raise ValueError(f"expected an address of {' '.join(SCHEMES)}{hint} but got {scheme}://...")
        return source

    @model_validator(mode="after")
    def _size_is_whole(self) -> Self:
        if bool(self.width) != bool(self.height):
            raise ValueError(f"width {self.width} and height {self.height}: give both or neither")
        return self
