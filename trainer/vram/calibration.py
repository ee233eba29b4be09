"""Correct estimates by what measured runs took; without measured runs there is only a documented prior.

Few numbers, no more: whatever a run measures beyond them is an error of the model that has to show.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from pydantic import BaseModel, ConfigDict, ValidationError

from trainer.vram.profile import ModelProfile

_PLACE = Path(__file__).resolve().parents[2] / "bench" / "results"
_PATTERN = "vram-*.json"
_LEAST_ROWS = 6
"""Fewer runs than this correct nothing: their scatter would be taken for the truth."""


@dataclass(frozen=True, slots=True)
class Factors:
    """Hold the few numbers that no trace on a processor gives.

    `context_bytes` is what the driver, cuBLAS and cuDNN take outside the allocator: the prior is what
    people report for data centre cards with lazily loaded kernels, between 0.3 and 0.8 GiB. `workspace`
    scales what kernels are thought to take for themselves, `reserved` all that the allocator reserves.
    `nccl_bytes` is what talking to other devices takes on each; a guess, nobody has measured it here.
    """

    context_bytes: int = 560 * 2**20
    workspace: float = 1.0
    reserved: float = 1.0
    nccl_bytes: int = 256 * 2**20


PRIOR = Factors()


class MeasuredRun(BaseModel):
    """Hold one run measured on a card, and what was predicted for it without calibration; bytes.

    `role` was given before anything was measured. `process_bytes` is the process's memory by NVML.
    """

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    model: str
    parameters: int
    role: str
    card: str = ""
    reserved_bytes: int
    allocated_bytes: int
    process_bytes: int
    predicted_reserved_bytes: int
    predicted_allocated_bytes: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """Hold factors fitted to measured runs; `spans` are the least and most parameters by family."""

    name: str
    factors: Factors
    spans: tuple[tuple[str, int, int], ...] = ()

    def covers(self, profile: ModelProfile) -> bool:
        """Say whether this network lies among those measured: of a family, and between its sizes."""
        family = family_of(profile.name)
        return any(name == family and low <= profile.parameters <= high for name, low, high in self.spans)


def family_of(name: str) -> str:
    """Return the family of a network's name.

    >>> family_of("yolov8m"), family_of("yolo11x"), family_of("yolov5nu"), family_of("yolov9c")
    ('yolov8', 'yolo11', 'yolov5', 'yolov9')
    """
    found = re.match(r"yolov?\d+", name)
    return found.group(0) if found else name


def fit_calibration(runs: Sequence[MeasuredRun], name: str) -> Calibration | None:
    """Return factors from the runs marked for calibration, or None where they are too few.

    Medians, so that one odd run does not move them.
    """
    used = [run for run in runs if run.role == "calibration"]
    if len(used) < _LEAST_ROWS:
        return None
    context = median(run.process_bytes - run.reserved_bytes for run in used)
    reserved = median(run.reserved_bytes / run.predicted_reserved_bytes for run in used)
    return Calibration(name, Factors(max(round(context), 0), 1.0, reserved), _spans(used))


def load_calibration(folder: Path | None = None) -> Calibration | None:
    """Return the calibration that the measured runs of a checkout amount to, or None.

    Args:
        folder: where `vram-*.json` lie; by default this checkout's `bench/results`.
    """
    place = folder or _PLACE
    runs: list[MeasuredRun] = []
    names: list[str] = []
    for path in sorted(place.glob(_PATTERN)) if place.is_dir() else []:
        found = _runs_in(path)
        if found:
            runs += found
            names.append(path.name)
    return fit_calibration(runs, ", ".join(names))


def _runs_in(path: Path) -> list[MeasuredRun]:
    """Return the runs on a card that a file holds; one that holds none, or is of another kind, gives none."""
    try:
        content = json.loads(path.read_bytes())
        return [MeasuredRun.model_validate(row) for row in content.get("gpu_runs", [])]
    except (OSError, ValueError, ValidationError, AttributeError):
        return []


def _spans(runs: Iterable[MeasuredRun]) -> tuple[tuple[str, int, int], ...]:
    sizes: dict[str, list[int]] = {}
    for run in runs:
        sizes.setdefault(family_of(run.model), []).append(run.parameters)
    return tuple((family, min(found), max(found)) for family, found in sorted(sizes.items()))
