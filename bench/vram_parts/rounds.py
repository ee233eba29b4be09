"""Predict and measure, each measurement in a process of its own; rows that are done are not done again."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.vram_parts.configs import CLASSES, CPU_CONFIGS, GPU_CONFIGS, TIMED, TRACKED, Config
from trainer.vram import TrainingShape, estimate_vram, naive_estimate, profile_of
from trainer.vram.persistent import CUBLAS_BYTES
from trainer.vram.replay import replay

ROOT = Path(__file__).resolve().parents[2]
_SECONDS = 300
Tell = Callable[[str], None]


class Rows:
    """Keep rows by name in a JSON file, written after each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}

    def has(self, section: str, name: str) -> bool:
        """Say whether a row was measured before."""
        return any(row["name"] == name for row in self.content.get(section, []))

    def add(self, section: str, row: dict[str, Any]) -> None:
        """Add a row and write the file."""
        self.content.setdefault(section, []).append(row)
        self.save()

    def save(self) -> None:
        """Write the file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".part")
        temporary.write_text(json.dumps(self.content, indent=1) + "\n")
        temporary.replace(self.path)


def run_cpu(rows: Rows, cache: Path, tell: Tell, limit: int | None = None) -> None:
    """Measure what a processor can tell: whether scaling is exact, and what torch's tracker sees."""
    for number, config in enumerate(CPU_CONFIGS[:limit]):
        if rows.has("cpu_steps", config.name):
            continue
        tell(config.name)
        found = child("bench.vram_parts.full_step", config)
        tracked = child("bench.vram_parts.tracker", config) if number < TRACKED else {}
        told = {"tracked_bytes": tracked.get("tracked_bytes"), "tracked_seconds": tracked.get("seconds")}
        rows.add("cpu_steps", {**_predicted(config, cache), **found, **told})


def run_tracked(rows: Rows, tell: Tell, limit: int | None = None) -> None:
    """Ask torch's tracker for what is measured on cards; it needs none."""
    for config in GPU_CONFIGS[:limit]:
        if not rows.has("tracked", config.name):
            tell(f"tracking {config.name}")
            rows.add("tracked", {"name": config.name, **child("bench.vram_parts.tracker", config)})


def run_timed(rows: Rows, tell: Tell, names: tuple[str, ...] = TIMED) -> None:
    """Time an estimate from nothing: start of the child, trace, fit and replay."""
    for name in names:
        if rows.has("timed", name):
            continue
        tell(f"timing {name}")
        began, used = time.monotonic(), _children_seconds()
        profile = profile_of(name, 80)
        used = _children_seconds() - used
        traced = time.monotonic() - began
        estimate_vram(profile, TrainingShape(image_size=640, batch=16, precision="bf16"))
        row = {
            "name": name,
            "parameters": profile.parameters,
            "exact_share": profile.exact_share,
            "cpu_seconds": used,
        }
        rows.add("timed", {**row, "traced_seconds": traced, "seconds": time.monotonic() - began})


def _children_seconds() -> float:
    """Return the processor seconds of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def has_card() -> bool:
    """Say whether torch sees a card here."""
    import torch

    return bool(torch.cuda.is_available())


def run_gpu(rows: Rows, cache: Path, tell: Tell, seconds: float, limit: int | None = None) -> bool:
    """Measure on the card until the list or the time is up; return whether all of it is done."""
    ends = time.monotonic() + seconds
    for config in GPU_CONFIGS[:limit]:
        if rows.has("gpu_runs", config.name) or rows.has("gpu_failures", config.name):
            continue
        if time.monotonic() > ends:
            return False
        tell(config.name)
        predicted = _predicted(config, cache)
        try:
            found = child("bench.vram_parts.measure", config)
        except subprocess.SubprocessError as error:
            why = getattr(error, "stderr", None) or str(error).encode()
            rows.add("gpu_failures", {"name": config.name, "why": why[-1000:].decode(errors="replace")})
            continue
        rows.add("gpu_runs", {**predicted, **found})
    return True


def child(module: str, config: Config) -> dict[str, Any]:
    """Run one measurement in a process of its own and return what it told.

    Raises:
        subprocess.SubprocessError: it failed or took too long.
    """
    with tempfile.TemporaryDirectory(prefix="whetstone-bench-") as folder:
        asked, told = Path(folder) / "config.json", Path(folder) / "told.json"
        asked.write_text(json.dumps(asdict(config)))
        command = [sys.executable, "-m", module, str(asked), str(told)]
        subprocess.run(command, cwd=ROOT, check=True, timeout=_SECONDS, capture_output=True)
        found: dict[str, Any] = json.loads(told.read_text())
        return found


def _predicted(config: Config, cache: Path) -> dict[str, Any]:
    profile = profile_of(config.model, CLASSES, cache=cache)
    found = replay(profile, config.shape)
    return {
        "name": config.name, "role": config.role, **asdict(config), "parameters": profile.parameters,
        "predicted_reserved_bytes": found.peak_reserved, "predicted_allocated_bytes": found.peak_allocated,
        "predicted_live_bytes": found.peak_allocated - CUBLAS_BYTES, "predicted_moment": found.moment,
        "predicted_peak_bytes": estimate_vram(profile, config.shape).peak_bytes,
        "naive_bytes": naive_estimate(profile, config.shape),
    }  # fmt: skip
