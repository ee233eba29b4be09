"""Be our loop on one core while its own agent's other threads work on the other.

In a box these are threads of the agent's process, so they share the interpreter's lock with the loop; they
are so here. Each pins itself to the other core:

    uploads   the box's putter sends 1080p JPEGs to a store, one after the other, as fast as the line allows
    updates   one release after the other: download with the box's downloader (flushed and verified), the
              self-test's child, which builds a session and runs probe frames, then the load of the second
              session beside the serving one, as `Serving.swap` does; it is let go unused

Up and down the line carries 100 Mbit/s: some twenty frames a second, far more than the mining ever keeps.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2

from bench.edge_parts.line import Line
from detection.session import Detector
from edge_agent.ota.disk import Disk
from edge_agent.ota.download import Downloader, file_sha256
from edge_agent.ota.server import HttpServer
from edge_agent.ota.tuf_client import Target
from edge_agent.upload.http import HttpPutter
from edge_agent.upload.rate import TokenBucket

PARK_S = 60.0
LINE_BYTES_PER_S = 12_500_000
"""100 Mbit/s, each way."""
SELF_TEST = """
import os, sys
from pathlib import Path
import numpy as np
from detection.session import Detector, DetectorOptions
os.nice(10)
detector = Detector.load(Path(sys.argv[1]), options=DetectorOptions(threads=1))
for frame in np.load(sys.argv[2], mmap_mode="r"):
    detector.infer(frame)
"""


class LineBeside(Line):
    """Run the loop, with or without work on the other core."""

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__(spec)
        self._url = f"http://127.0.0.1:{spec['port']}/"
        self._other = {spec["other_core"]}
        self._on = threading.Event()
        self._stopped = threading.Event()
        self._parked = [threading.Event(), threading.Event()]
        self.done = {"uploads": 0, "downloads": 0, "self_tests": 0, "loads": 0}
        self._load_ms: list[float] = []
        self._jpeg = cv2.imencode(".jpg", self._images[0], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
        self._putter = HttpPutter(bucket=TokenBucket(LINE_BYTES_PER_S))
        self._release = self._folder / "release"
        self._release.mkdir()
        model = Path(spec["onnx"])
        self._target = Target(
            "model.onnx", f"releases/{model.name}", model.stat().st_size, file_sha256(model)
        )
        self._downloader = Downloader(HttpServer(self._url), Disk(), LINE_BYTES_PER_S)
        for parked, work in zip(self._parked, (self._upload, self._update), strict=True):
            threading.Thread(target=self._repeat, args=(work, parked), daemon=True).start()

    def busy(self, on: bool) -> dict[str, Any]:  # noqa: FBT001 - a word of the pipe's protocol
        """Let the other core work, or wait until it rests; say what it has done so far.

        Raises:
            RuntimeError: it does not come to rest.
        """
        if on:
            self._on.set()
        else:
            self._on.clear()
            if not all(parked.wait(PARK_S) for parked in self._parked):
                raise RuntimeError(f"expected the other core at rest within {PARK_S:g} s")
            self._settle()
        return {**self.done, "load_ms": [round(ms, 2) for ms in self._load_ms]}

    def end(self) -> dict[str, Any]:
        """Stop everything."""
        self._stopped.set()
        self._on.set()
        return super().end()

    def _repeat(self, work: Callable[[], None], parked: threading.Event) -> None:
        # A thread's affinity is its own, and its children inherit it.
        os.sched_setaffinity(threading.get_native_id(), self._other)
        while not self._stopped.is_set():
            if not self._on.is_set():
                parked.set()
                self._on.wait()
                parked.clear()
                continue
            work()

    def _upload(self) -> None:
        self._putter.put(f"{self._url}store/example.jpg", self._jpeg, "image/jpeg")
        self.done["uploads"] += 1

    def _update(self) -> None:
        path = self._release / "model.onnx"
        path.unlink(missing_ok=True)
        self._downloader.fetch(self._target, path, self._stopped)
        self.done["downloads"] += 1
        if not self._on.is_set():
            return
        command = [sys.executable, "-c", SELF_TEST, str(path), self._spec["frames"]]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self.done["self_tests"] += 1
        if not self._on.is_set():
            return
        began = time.perf_counter()
        detector = Detector.load(path, options=self._options)
        detector.warm_up()
        self._load_ms.append((time.perf_counter() - began) * 1e3)
        detector.close()
        self.done["loads"] += 1
