"""Check on a CUDA machine what no test without one can: AMP steps, memory, the ladder, the CUDA provider.

    bench/gpu.sh                     # all checks
    bench/gpu.sh --only training     # one of: training memory ladder provider
    bench/gpu.sh --smoke             # tiny, on whatever there is: whether the checks run

Every check is written to `gpu_checks.json` as soon as it is done, so a run cut short leaves what it had.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fleet_contracts.samples import BoxLabel
from trainer.backend import run_to_end
from trainer.backend_job import BackendEvent, BackendJob, BackendResult
from trainer.dataset import DatasetItem, write_dataset
from trainer.vram import TrainingShape, estimate_vram, sketched_profile

NAMES = ("bright", "dark")
IMAGES = 96
SIDE = 640
CASES = (
    ("yolo11n.yaml", 2_600_000, 1.0, 320, 16),
    ("yolo11n.yaml", 2_600_000, 1.0, 640, 16),
    ("yolo11n.yaml", 2_600_000, 1.0, 640, 48),
    ("yolo11s.yaml", 9_400_000, 2.0, 640, 16),
)
SMOKE: dict[str, Any] = {"start": "tests/trainer/tiny.yaml", "image_size": 64, "batch": 4, "epochs": 2}
"""What every job becomes in a smoke run: it shows that the checks run, and measures nothing."""


def scenes(folder: Path, images: int = IMAGES, side: int = SIDE) -> Path:
    """Write random rectangles on noise as a dataset."""
    random = np.random.default_rng(0)
    items = []
    for number in range(images):
        image = random.integers(90, 130, (side, side, 3), dtype=np.uint8)
        boxes = []
        for _ in range(8):
            class_id = int(random.integers(2))
            width, height = random.integers(side // 21, side // 5, 2).tolist()
            x, y = int(random.integers(0, side - width)), int(random.integers(0, side - height))
            cv2.rectangle(
                image, (x, y), (x + width, y + height), (230,) * 3 if class_id == 0 else (20,) * 3, -1
            )
            boxes.append(
                BoxLabel(
                    class_id=class_id,
                    cx=(x + width / 2) / side,
                    cy=(y + height / 2) / side,
                    width=width / side,
                    height=height / side,
                )
            )
        split = "val" if number >= images - 8 else "train"
        content = cv2.imencode(".jpg", image)[1].tobytes()
        items.append(DatasetItem(f"scene-{number:03d}", content, tuple(boxes), 2, split))
    return write_dataset(folder, NAMES, items).folder


class Bench:
    """Run jobs on one dataset and keep their events."""

    def __init__(self, work: Path, *, smoke: bool = False) -> None:
        self.work = work
        self.smoke = smoke
        self.dataset = scenes(work / "scenes", 16, 64) if smoke else scenes(work / "scenes")
        self.last: BackendResult | None = None

    def train(self, name: str, **changes: Any) -> list[BackendEvent]:
        """Train one job and return its events."""
        values = {
            "start": "yolo11n.yaml",
            "dataset": self.dataset,
            "out": self.work / name,
            "class_names": NAMES,
            "image_size": 640,
            "epochs": 2,
            "batch": 16,
            "niceness": 0,
            "export": False,
            **changes,
            **(SMOKE if self.smoke else {}),
        }
        events: list[BackendEvent] = []
        self.last = run_to_end(BackendJob.model_validate(values), events.append)
        return events


def epochs(events: list[BackendEvent]) -> list[dict[str, Any]]:
    """Return what the epochs measured."""
    return [event.data for event in events if event.kind == "epoch"]


def check_training(bench: Bench) -> dict[str, Any]:
    """Train in full and in mixed precision: finite losses, faster, smaller."""
    told = {}
    for precision in ("fp32", "auto"):
        rows = epochs(bench.train(f"training-{precision}", precision=precision, epochs=3))
        finite = all(np.isfinite(list(row["losses"].values())).all() for row in rows)
        told |= {
            f"{precision}.finite": finite,
            f"{precision}.images_per_second": rows[-1]["images_per_second"],
            f"{precision}.peak_bytes": rows[-1]["peak_memory_bytes"],
        }
    return told


def check_memory(bench: Bench) -> dict[str, Any]:
    """Set the estimate beside the measured peak (reserved by the allocator, without the context)."""
    import torch

    if not torch.cuda.is_available():
        return {"skipped": "no card"}
    told: dict[str, Any] = {}
    for start, parameters, width, size, batch in CASES:
        name = f"{start.removesuffix('.yaml')}-{size}-{batch}"
        rows = epochs(bench.train(f"memory-{name}", start=start, image_size=size, batch=batch, epochs=1))
        shape = TrainingShape(size, batch, precision="bf16")
        estimate = estimate_vram(sketched_profile(start, parameters, width, classes=2), shape)
        predicted = estimate.peak_bytes - estimate.terms["context"]
        measured = max(row["peak_memory_bytes"] for row in rows)
        told |= {
            f"{name}.measured_bytes": measured,
            f"{name}.estimate_bytes": predicted,
            f"{name}.error_share": round(predicted / measured - 1, 4),
        }
    return told


def check_ladder(bench: Bench) -> dict[str, Any]:
    """Give a job too little memory: it must end well with a smaller batch at the same effective batch."""
    import torch

    if not torch.cuda.is_available():
        return {"skipped": "no card"}
    total = torch.cuda.get_device_properties(0).total_memory
    events = bench.train("ladder", batch=48, epochs=2, memory_share=min(1.0, 3 * 2**30 / total))
    rungs = [event.data for event in events if event.kind == "rung"]
    return {"rungs": len(rungs), "last_rung": rungs[-1] if rungs else {}, "epochs": len(epochs(events))}


def check_provider(bench: Bench) -> dict[str, Any]:
    """Run the exported file on CUDA and on the processor: the same boxes, and how fast."""
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return {"skipped": f"onnxruntime has {onnxruntime.get_available_providers()}"}
    bench.train("provider", epochs=1, export=True)
    assert bench.last is not None
    image = np.random.default_rng(0).integers(0, 256, (1, 640, 640, 3), dtype=np.uint8)
    outputs, told = {}, {}
    for provider in ("CPUExecutionProvider", "CUDAExecutionProvider"):
        session = onnxruntime.InferenceSession(str(bench.last.onnx), providers=[provider])
        times = []
        for _ in range(50):
            began = time.perf_counter()
            outputs[provider] = session.run(["detections"], {"image": image})[0]
            times.append((time.perf_counter() - began) * 1000)
        told[f"{provider}.p50_ms"] = round(statistics.median(times[10:]), 3)
    difference = np.abs(outputs["CPUExecutionProvider"] - outputs["CUDAExecutionProvider"])[0]
    return {**told, "max_box_px": float(difference[:4].max()), "max_score": float(difference[4:].max())}


CHECKS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "training": check_training,
    "ladder": check_ladder,
    "provider": check_provider,
    "memory": check_memory,
}


def main() -> int:
    """Run the asked checks; the exit status is 1 when one raised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    parser.add_argument("--only", choices=CHECKS)
    parser.add_argument("--smoke", action="store_true", help="tiny, on whatever there is: whether it runs")
    chosen = parser.parse_args()
    import torch

    told: dict[str, Any] = {
        "machine": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cuda": torch.cuda.is_available(),
        "torch": str(torch.__version__),
    }
    failed = False
    with tempfile.TemporaryDirectory() as work:
        bench = Bench(Path(work), smoke=chosen.smoke)
        for name, check in CHECKS.items():
            if chosen.only not in (None, name):
                continue
            began = time.monotonic()
            try:
                found = check(bench)
            except Exception as error:  # one check must not cost the others
                traceback.print_exc()
                found, failed = {"failed": f"{type(error).__name__}: {error}"[:1000]}, True
            told |= {f"{name}.{key}": value for key, value in found.items()}
            told[f"{name}.seconds"] = round(time.monotonic() - began, 1)
            (chosen.out / "gpu_checks.json").write_text(json.dumps(told, indent=1))
            print(name, json.dumps(found))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
