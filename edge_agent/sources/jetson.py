"""Write the GStreamer pipelines that Jetsons need, and the tail that hands frames to us. Pure.

`nvarguscamerasrc` reads a CSI camera through the image processor, `nvv4l2decoder` decodes H.264 beside the
CPU, `nvvidconv` moves pictures out of the GPU's memory. A leaky queue of one frame keeps a slow reader on the
newest picture; GStreamer's own queue would hold 200 old ones. No Jetson was at hand when these were written:
`test` runs the same tail with a drawn picture, the others were checked as text.

    >>> pipeline_of("csi?width=1280&height=720&fps=60")[:39]
    'nvarguscamerasrc sensor-id=0 ! video/x-'
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from edge_agent.errors import ConfigError

LEAKY = "queue leaky=downstream max-size-buffers=1 max-size-bytes=0 max-size-time=0"
PLAIN = "video/x-raw,format=I420"
"""What the tail carries: half the bytes of BGR."""


@dataclass(frozen=True, slots=True)
class Picture:
    """Hold what is asked of a camera; 0 leaves a number to the camera."""

    width: int = 1920
    height: int = 1080
    fps: int = 30

    def caps(self) -> str:
        """Write it as GStreamer's capabilities."""
        size = f",width={self.width},height={self.height}" if self.width and self.height else ""
        return size + (f",framerate={self.fps}/1" if self.fps else "")


def csi(picture: Picture, options: Mapping[str, str]) -> str:
    """Read a CSI camera; `sensor` is its number."""
    return (
        f"nvarguscamerasrc sensor-id={_number(options, 'sensor')} ! "
        f"video/x-raw(memory:NVMM),format=NV12{picture.caps()} ! nvvidconv"
    )


def usb(picture: Picture, options: Mapping[str, str]) -> str:
    """Read a USB camera that sends JPEGs, decoded by the Jetson's own decoder."""
    device = _word(options, "device", "/dev/video0")
    return f"v4l2src device={device} ! image/jpeg{picture.caps()} ! nvv4l2decoder mjpeg=1 ! nvvidconv"


def rtsp(_: Picture, options: Mapping[str, str]) -> str:
    """Read an H.264 stream from the network; `url` is its address, `latency` in ms."""
    url, latency = _word(options, "url", ""), _number(options, "latency", 100)
    if not url:
        raise _wrong("jetson:rtsp?url=rtsp://...", "no url")
    return (
        f"rtspsrc location={url} protocols=tcp latency={latency} tcp-timeout=5000000 ! "
        "rtph264depay ! h264parse ! nvv4l2decoder enable-max-performance=1 ! nvvidconv"
    )


def test(picture: Picture, options: Mapping[str, str]) -> str:
    """Draw a picture on any machine that has GStreamer."""
    pattern = _word(options, "pattern", "ball")
    source = f"videotestsrc is-live=true pattern={pattern}"
    return f"{source} ! video/x-raw,format=NV12{picture.caps()} ! videoconvert"


PIPELINES: dict[str, Callable[[Picture, Mapping[str, str]], str]] = {
    "csi": csi,
    "rtsp": rtsp,
    "test": test,
    "usb": usb,
}


def pipeline_of(text: str) -> str:
    """Return the pipeline that `<name>?key=value&...` names, without its sink.

    Raises:
        ConfigError: no such name, or a value that is no number or could change the pipeline.
    """
    name, _, query = text.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if name not in PIPELINES:
        raise _wrong(f"one of {', '.join(PIPELINES)}", name)
    known = Picture()
    picture = Picture(
        _number(options, "width", known.width),
        _number(options, "height", known.height),
        _number(options, "fps", known.fps),
    )
    return PIPELINES[name](picture, options)


def without_sink(pipeline: str) -> str:
    """Cut off the `appsink` or `fdsink` that a pipeline written for another program ends with."""
    body, separator, last = pipeline.strip().rstrip("!").rpartition("!")
    is_sink = separator and last.split()[:1] in (["appsink"], ["fdsink"], ["fakesink"], ["autovideosink"])
    return (body if is_sink else pipeline).strip().rstrip("!").strip()


def with_tail(pipeline: str, handle: int, *, leaky: bool) -> str:
    """End a pipeline with frames on a pipe: packets of GStreamer's data protocol on the descriptor `handle`.

    A leaky queue drops what is old; for a file's frames it must not.
    """
    queue = f"{LEAKY} ! " if leaky else ""
    sink = f"fdsink fd={handle} sync=false"
    return f"{without_sink(pipeline)} ! {queue}videoconvert ! {PLAIN} ! gdppay ! {sink}"


def for_appsink(pipeline: str) -> str:
    """End a pipeline for an OpenCV that was built with GStreamer (`cv2.CAP_GSTREAMER`)."""
    sink = "appsink drop=true max-buffers=1 sync=false"
    return f"{without_sink(pipeline)} ! {LEAKY} ! videoconvert ! video/x-raw,format=BGR ! {sink}"


def _number(options: Mapping[str, str], key: str, default: int = 0) -> int:
    text = options.get(key, str(default))
    if not text.isdecimal() or len(text) > 6:
        raise _wrong(f"a number for {key}", text)
    return int(text)


def _word(options: Mapping[str, str], key: str, default: str) -> str:
    """Return a value that is one word of the pipeline."""
    text = options.get(key, default)
    if any(sign.isspace() or sign in "!\"'" for sign in text):
        raise _wrong(f"one word for {key}", text)
    return text


def _wrong(expected: str, got: str) -> ConfigError:
    return ConfigError(
        expected=expected, got=got, where="camera.source", now="Correct camera.source; see docs/edge.md."
    )
