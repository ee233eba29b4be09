"""Be Roboflow's inference, in a child of its own installation (`.venv-peers`, see `scripts/peers.sh`).

Its engine library loads a package from a folder: the same float export, its class names, and how it is to
be fed. Nothing of ours but the protocol is imported here.
"""

from __future__ import annotations

import json
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.edge_parts.protocol import process_facts, serve, spec_of, timed, with_threads

GREY = 114


class Roboflow:
    """Run inference_models' detector on one frame after the other."""

    def __init__(self, spec: dict[str, Any]) -> None:
        os.environ.update(OFFLINE_MODE="True", ONNXRUNTIME_EXECUTION_PROVIDERS="[CPUExecutionProvider]",
                          TELEMETRY_OPT_OUT="True", DISABLE_VERSION_CHECK="True")  # fmt: skip
        import cv2
        import numpy as np
        import onnxruntime
        import torch

        with_threads(onnxruntime, spec["threads"])
        torch.set_num_threads(spec["threads"])
        cv2.setNumThreads(spec["threads"])
        from inference_models import AutoModel  # type: ignore[import-not-found]  # in its own installation

        self._frames = list(np.load(spec["frames"]))
        self._told = {"confidence": spec["conf"], "iou_threshold": spec["iou"], "max_detections": 300}
        self._model = AutoModel.from_pretrained(str(package(spec)), device=torch.device("cpu"))
        self._step(0)

    def _step(self, number: int) -> Any:
        return self._model(self._frames[number % len(self._frames)], **self._told)[0]

    def look(self) -> dict[str, Any]:
        """Return what is found in each frame: rows of x1, y1, x2, y2, confidence, class."""
        found = []
        for number in range(len(self._frames)):
            boxes = self._step(number)
            columns = zip(
                boxes.xyxy.tolist(), boxes.confidence.tolist(), boxes.class_id.tolist(), strict=True
            )
            found.append([[*xyxy, confidence, class_id] for xyxy, confidence, class_id in columns])
        return {"found": found}

    def run(self, frames: int, warm: int) -> dict[str, Any]:
        """Measure a block."""
        return {"ms": timed(self._step, frames, warm)}

    def facts(self) -> dict[str, Any]:
        """Say what the process uses, and in which versions."""
        import onnxruntime

        told = {"onnxruntime": onnxruntime.__version__, "inference": version("inference-cpu")}
        return {**process_facts(), **told, "inference_models": version("inference-models")}


def package(spec: dict[str, Any]) -> Path:
    """Write the folder the library loads: weights, names, and how frames are fed."""
    folder = Path(spec["onnx"]).with_suffix(".package")
    folder.mkdir(exist_ok=True)
    weights = folder / "weights.onnx"
    if not weights.exists():
        os.link(spec["onnx"], weights)
    size = {"height": spec["size"], "width": spec["size"]}
    (folder / "class_names.txt").write_text("\n".join(spec["names"]) + "\n")
    (folder / "model_config.json").write_text(
        json.dumps({"model_architecture": "yolov11", "task_type": "object-detection", "backend_type": "onnx"})
    )
    (folder / "inference_config.json").write_text(json.dumps({
        "network_input": {
            "training_input_size": size, "dynamic_spatial_size_supported": False, "color_mode": "rgb",
            "resize_mode": "letterbox", "padding_value": GREY, "input_channels": 3, "scaling_factor": 255,
        },
        "forward_pass": {"static_batch_size": 1},
        "post_processing": {"type": "nms", "fused": False},
    }))  # fmt: skip
    return folder


def main() -> int:
    """Serve the parent."""
    spec = spec_of(sys.argv)
    serve(lambda: Roboflow(spec))
    return 0


if __name__ == "__main__":
    sys.exit(main())
