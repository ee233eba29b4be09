"""Measure weights with ultralytics' own validator, the same for everybody's.

    python -m bench.train_parts.evaluate '{"data": "measure.yaml", "size": 192, "weights": {"name": "x.pt"}}'

prints one line of JSON: mAP50 and mAP50-95 by name.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from typing import Any

import torch
from ultralytics import YOLO


def main() -> int:
    """Measure every file."""
    spec = json.loads(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is not the answer
    told = {name: _measure(path, spec) for name, path in spec["weights"].items()}
    answers.write(json.dumps(told) + "\n")
    answers.flush()
    return 0


def _measure(path: str, spec: dict[str, Any]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as work:
        found = YOLO(path).val(
            data=spec["data"], imgsz=spec["size"], batch=16, rect=False, workers=0, plots=False,
            verbose=False, half=False, project=work, device="0" if torch.cuda.is_available() else "cpu",
        )  # fmt: skip
    return {"map50": float(found.box.map50), "map": float(found.box.map)}


if __name__ == "__main__":
    sys.exit(main())
