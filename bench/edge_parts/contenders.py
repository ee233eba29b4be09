"""Be the bare engine or ultralytics, in a child: `python -m bench.edge_parts.protocol contenders SPEC`.

Kinds: `bare`    `session.run` of the plain float export on a ready tensor: the limit everybody is held to
       `engine`  the same on our export and a ready canvas: what the graph alone costs the loop
       `predict` `YOLO(onnx).predict(frame)` as ultralytics documents it
"""

from __future__ import annotations

import sys
from typing import Any

from bench.edge_parts.protocol import process_facts, serve, spec_of, timed, with_threads


class Bare:
    """Run a session on one tensor that lies ready."""

    def __init__(self, spec: dict[str, Any]) -> None:
        import numpy as np
        import onnxruntime

        with_threads(onnxruntime, spec["threads"])
        self._session = onnxruntime.InferenceSession(spec["onnx"], providers=["CPUExecutionProvider"])
        wanted = self._session.get_inputs()[0]
        frame = np.load(spec["frames"], mmap_mode="r")[0]
        if wanted.type == "tensor(uint8)":
            tensor = np.ascontiguousarray(frame[: wanted.shape[1], : wanted.shape[2]])[None]
        else:
            side = wanted.shape[2]
            tensor = np.ascontiguousarray(frame[:side, :side].transpose(2, 0, 1)[None], np.float32) / 255
        self._feed = {wanted.name: tensor}

    def run(self, frames: int, warm: int) -> dict[str, Any]:
        """Measure a block."""
        run, feed = self._session.run, self._feed
        return {"ms": timed(lambda _: run(None, feed), frames, warm)}

    def facts(self) -> dict[str, Any]:
        """Say what the process uses."""
        return process_facts()


class Predict:
    """Run ultralytics' predict on one frame after the other."""

    def __init__(self, spec: dict[str, Any]) -> None:
        import cv2
        import numpy as np
        import onnxruntime
        import torch

        with_threads(onnxruntime, spec["threads"])
        torch.set_num_threads(spec["threads"])
        from ultralytics import YOLO

        cv2.setNumThreads(spec["threads"])
        self._frames = list(np.load(spec["frames"]))
        self._model = YOLO(spec["onnx"], task="detect")
        self._told = {"conf": spec["conf"], "iou": spec["iou"], "imgsz": spec["size"], "max_det": 300,
                      "device": "cpu", "verbose": False}  # fmt: skip
        self._step(0)

    def _step(self, number: int) -> Any:
        return self._model.predict(self._frames[number % len(self._frames)], **self._told)[0]

    def look(self) -> dict[str, Any]:
        """Return what is found in each frame: rows of x1, y1, x2, y2, confidence, class."""
        return {"found": [self._step(number).boxes.data.tolist() for number in range(len(self._frames))]}

    def run(self, frames: int, warm: int) -> dict[str, Any]:
        """Measure a block."""
        return {"ms": timed(self._step, frames, warm)}

    def facts(self) -> dict[str, Any]:
        """Say what the process uses."""
        return process_facts()


KINDS = {"bare": Bare, "engine": Bare, "predict": Predict}


def main() -> int:
    """Serve the parent."""
    spec = spec_of(sys.argv)
    serve(lambda: KINDS[spec["kind"]](spec))
    return 0


if __name__ == "__main__":
    sys.exit(main())
