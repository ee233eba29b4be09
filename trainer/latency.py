"""Measure what one frame costs a model on this machine, through the code that runs on the box."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt

from detection.session import Detector, DetectorOptions, Inference
from fleet_contracts.judging import Latency

_FRAMES = 40
_WARM_UP = 5


def measure_latency(onnx: Path, *, threads: int = 1, frames: int = _FRAMES) -> Latency:
    """Return a model's own time for a frame of its input size, in milliseconds: engine and decoding.

    Heads leave more or less of the boxes to decoding, so the engine alone would favour those that leave more.
    The figure is of this machine and not of a box: the gate uses it only to compare two models here.
    """
    return measure_latencies([onnx], threads=threads, frames=frames)[0]


def measure_latencies(models: Sequence[Path], *, threads: int = 1, frames: int = _FRAMES) -> list[Latency]:
    """Measure several models frame by frame in turn, so that other work troubles all alike."""
    with ExitStack() as open_ones:
        detectors = [Detector.load(path, options=DetectorOptions(threads=threads)) for path in models]
        for detector in detectors:
            open_ones.callback(detector.close)
        frame_of = [_noise(detector) for detector in detectors]
        times = [
            [_own_ms(detector.infer(frame)) for detector, frame in zip(detectors, frame_of, strict=True)]
            for _ in range(_WARM_UP + frames)
        ]
        kept = np.array(times[_WARM_UP:])
        return [
            Latency(
                device_class=platform.machine(),
                provider=detector.provider,
                threads=threads,
                p50_ms=float(np.percentile(kept[:, column], 50)),
                p95_ms=float(np.percentile(kept[:, column], 95)),
                frames=frames,
            )
            for column, detector in enumerate(detectors)
        ]


def _own_ms(inference: Inference) -> float:
    return inference.engine_ms + inference.postprocess_ms


def _noise(detector: Detector) -> npt.NDArray[np.uint8]:
    shape = (detector.spec.height, detector.spec.width, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
