"""Hold a camera in a process of its own, which the agent kills when it hangs.

`python -m edge_agent.sources.child <descriptor of the socket>`; what to open is read from stdin, for a
command line can be seen by everybody. One process opens its source once: whatever goes wrong, it says why and
ends, and the agent starts another.
"""

from __future__ import annotations

import socket
import sys
import time

import cv2

from edge_agent.errors import AgentError
from edge_agent.sources.genicam import GenicamGrabber
from edge_agent.sources.grab import Grabber, SourceJob
from edge_agent.sources.gstreamer import GstGrabber
from edge_agent.sources.mortal import die_with_parent
from edge_agent.sources.opencv import OpenCvGrabber
from edge_agent.sources.ring import Moment, RingWriter

END_OF_STREAM = "end of stream"


def choose_grabber(job: SourceJob) -> Grabber:
    """Return the driver of a source."""
    if job.kind in ("gst", "jetson"):
        return GstGrabber(job)
    if job.kind == "genicam":
        return GenicamGrabber(job)
    return OpenCvGrabber(job)


def pump(grabber: Grabber, ring: RingWriter) -> None:
    """Carry frames until the stream ends.

    Raises:
        AgentError: the source cannot be opened or was lost.
        OSError: the agent is gone.
    """
    for words in grabber.open():
        ring.remark("N", otherwise=words)
    while grabber.grab():
        # The earliest moment there is: the frame is here, and nothing was decoded yet.
        moment = Moment(time.monotonic(), time.time())
        if not ring.has_room():
            grabber.skip()
            continue
        image = grabber.retrieve(ring.target())
        if image is not None:
            ring.send(image, moment)


def main(arguments: list[str]) -> int:
    """Run the child; the exit code says nothing that the socket has not said before."""
    job = SourceJob.from_json(sys.stdin.buffer.read())
    die_with_parent(job.parent)
    # The cores belong to the inference loop.
    cv2.setNumThreads(1)
    sock = socket.socket(fileno=int(arguments[0]))
    ring = RingWriter(sock, job.slots, waits=job.waits)
    grabber = choose_grabber(job)
    try:
        pump(grabber, ring)
        ring.remark("E", expected="a frame", got=END_OF_STREAM, now="")
    except AgentError as error:
        ring.remark("E", expected=error.expected, got=error.got, now=error.now)
    except OSError as error:
        # Mostly the agent that is gone; if it is not, it reads these words from stderr.
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
    finally:
        grabber.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
