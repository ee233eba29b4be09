"""Make and keep what is measured: weights, two exports of them per size, and frames.

    .whetstone-bench/<key>/  weights.pt  float-320.onnx  ours-320.onnx  frames-320.npy  sure-320.json ...

The key is a hash of everything that decides the files, so an old export is never measured as a new one.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from bench.edge_parts.children import ROOT, child_environment
from bench.edge_parts.frames import choose_frames, drawn_frames, read_frames
from detection.session import Detector, DetectorOptions

WORK = ROOT / ".whetstone-bench"
DEFAULT_START = "yolo11n.yaml"
SMALLEST_SURE = 320
"""Below it the memory run alone is made, for which any frames will do."""
SOURCES = ("trainer/ultralytics_backend/export.py", "trainer/ultralytics_backend/models.py",
           "bench/edge_parts/weights.py", "bench/edge_parts/frames.py")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Exports:
    """Name the files of one size."""

    size: int
    weights: Path
    plain: Path
    ours: Path
    frames: Path
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Say what is to be measured: a yaml or a .pt, the seed of drawn weights, a folder of real images."""

    start: str = DEFAULT_START
    seed: int = 0
    images: Path | None = None

    def key(self) -> str:
        """Return a hash of all that decides the files."""
        digest = hashlib.sha256(repr(self).encode())
        for name in ("ultralytics", "torch", "onnx", "onnxslim", "onnxruntime"):
            digest.update(metadata.version(name).encode())
        for source in SOURCES:
            digest.update((ROOT / source).read_bytes())
        if self.start.endswith(".pt"):
            digest.update(Path(self.start).read_bytes())
        return digest.hexdigest()[:12]


def exports_of(wanted: Wanted, sizes: Sequence[int], say: Any = print) -> dict[int, Exports]:
    """Return the files of every size, made where they are not there yet."""
    folder = WORK / wanted.key()
    folder.mkdir(parents=True, exist_ok=True)
    names = _weights(wanted, folder, sizes, say)
    found = {}
    for size in sizes:
        plain, ours = folder / f"float-{size}.onnx", folder / f"ours-{size}.onnx"
        one = Exports(size, folder / "weights.pt", plain, ours, folder / f"frames-{size}.npy", names)
        _our_export(one, folder, say)
        _frames(one, wanted)
        found[size] = one
    return found


def _weights(wanted: Wanted, folder: Path, sizes: Sequence[int], say: Any) -> tuple[str, ...]:
    listed = folder / "names.json"
    missing = [size for size in sizes if not (folder / f"float-{size}.onnx").exists()]
    if missing or not listed.exists():
        say(f"making weights of {wanted.start} and ultralytics' float export at {missing or sizes}")
        asked = {
            "out": str(folder),
            "start": wanted.start,
            "seed": wanted.seed,
            "sizes": missing or list(sizes),
        }
        command = [sys.executable, "-m", "bench.edge_parts.weights", json.dumps(asked)]
        with (folder / "weights.log").open("ab") as log:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, check=False, cwd=ROOT,
                                  env=child_environment(2))  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(
                f"expected weights and exports, got status {done.returncode}; see {folder}/weights.log"
            )
        listed.write_text(done.stdout.decode().splitlines()[-1])
    return tuple(json.loads(listed.read_text()))


def _our_export(one: Exports, folder: Path, say: Any) -> None:
    from trainer.backend import export_weights

    if one.ours.exists():
        return
    say(f"making our export at {one.size}")
    made = export_weights(one.weights, one.names, one.size, folder / f"export-{one.size}")
    assert made.onnx is not None
    shutil.copyfile(made.onnx, one.ours)


def _frames(one: Exports, wanted: Wanted) -> None:
    if one.frames.exists():
        return
    candidates: Iterator[Any] = read_frames(wanted.images) if wanted.images else drawn_frames()
    detector = Detector.load(one.ours, options=DetectorOptions())
    # Trained weights see in a drawn frame what they like.
    only_sure = wanted.start == DEFAULT_START and wanted.images is None and one.size >= SMALLEST_SURE
    chosen = choose_frames(detector, candidates, only_sure=only_sure)
    detector.close()
    np.save(one.frames, chosen)
