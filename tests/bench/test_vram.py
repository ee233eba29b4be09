"""Test the memory bench's lists, figures and report, on made-up runs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bench.reporting import put_between
from bench.vram_parts.configs import CPU_CONFIGS, GPU_CONFIGS, HELD_OUT_FAMILIES, HELD_OUT_SIZES
from bench.vram_parts.figures import met, scored
from bench.vram_parts.report import MARKERS, markdown
from bench.vram_parts.rounds import Rows
from trainer.vram.calibration import family_of

MIB = 2**20


def run_of(role: str, factor: float) -> dict[str, Any]:
    """Return a measured run whose allocator reserved `factor` times what was predicted."""
    reserved = round(2000 * MIB * factor)
    return {
        "name": f"{role}-{factor}", "role": role, "model": "yolo11n", "parameters": 2_600_000,
        "reserved_bytes": reserved, "allocated_bytes": reserved, "process_bytes": reserved + 500 * MIB,
        "predicted_reserved_bytes": 2000 * MIB, "predicted_allocated_bytes": 1900 * MIB, "naive_bytes": 100 * MIB,
        "autobatch_bytes": 2200 * MIB,
    }  # fmt: skip


def test_the_list_is_what_was_promised() -> None:
    """At least forty configurations, no two alike, over all families, sizes n to m and three number formats."""
    assert len(GPU_CONFIGS) >= 40
    assert len({config.name for config in GPU_CONFIGS}) == len(GPU_CONFIGS)
    families = {family_of(config.model) for config in GPU_CONFIGS}
    assert families == {"yolov5", "yolov8", "yolov9", "yolov10", "yolo11", "yolo12", "yolo26"}
    assert {config.precision for config in GPU_CONFIGS} == {"fp32", "fp16", "bf16"}
    assert {config.model[-1] for config in GPU_CONFIGS} >= {"n", "s", "m"}


def test_held_out_families_and_sizes_never_calibrate() -> None:
    """A run calibrates only where neither its family nor its image size is held out."""
    roles = Counter(config.role for config in GPU_CONFIGS)
    assert roles["held-out"] >= 20
    for config in GPU_CONFIGS:
        if config.role == "calibration":
            assert family_of(config.model) not in HELD_OUT_FAMILIES
            assert config.image_size not in HELD_OUT_SIZES


def test_errors_are_counted_both_ways() -> None:
    """An estimate twelve percent over and one three percent under: the worst, and the worst shortfall."""
    found = scored([(112, 100), (97, 100), (101, 100)])
    assert (found.count, round(found.worst_error, 3), round(found.worst_under, 3)) == (3, 0.12, 0.03)
    assert met(found) == {"vram.median_err": True, "vram.worst_err": False, "vram.worst_under": False}


def test_without_runs_on_a_card_the_report_claims_nothing() -> None:
    """Targets are called open, not met."""
    told = markdown({})
    assert "No run has been measured on a card yet" in told
    assert " met" not in told.replace("`vram", "")


def test_the_report_scores_held_out_runs_by_themselves() -> None:
    """Calibration runs correct the factor; a held-out run that behaves otherwise misses the targets."""
    runs = [run_of("calibration", 1.1) for _ in range(6)]
    tracked = {"tracked": [{"name": "held-out-1.1", "tracked_bytes": 1500 * MIB}]}
    good = markdown(tracked, [*runs, run_of("held-out", 1.1)])
    assert "MemTracker" in good
    assert (
        "On what was held out: `vram.median_err` met, `vram.worst_err` met, `vram.worst_under` met." in good
    )
    bad = markdown({}, [*runs, run_of("held-out", 1.3)])
    assert "`vram.worst_under` **not met**" in bad
    assert "parameters x 4 x 3 + batch" in bad
    assert "ultralytics autobatch" in bad


def test_rows_are_kept_when_a_run_is_cut_short(tmp_path: Path) -> None:
    """What was measured before is found again and not measured twice."""
    rows = Rows(tmp_path / "vram-gpu.json")
    rows.add("gpu_runs", run_of("held-out", 1.0))
    again = Rows(tmp_path / "vram-gpu.json")
    assert again.has("gpu_runs", "held-out-1.0")
    assert not again.has("gpu_runs", "other")


def test_the_table_goes_between_its_markers(tmp_path: Path) -> None:
    """Text around the table stays."""
    document = tmp_path / "benchmarks.md"
    document.write_text(f"before\n{MARKERS[0]}\nold\n{MARKERS[1]}\nafter\n")
    put_between(document, MARKERS, markdown({}))
    told = document.read_text()
    assert told.startswith("before")
    assert told.endswith("after\n")
    assert "old" not in told


@pytest.mark.parametrize("config", CPU_CONFIGS, ids=lambda config: config.name)
def test_the_processors_steps_are_small(config: Any) -> None:
    """What is taken whole on two cores stays within seconds."""
    assert config.batch * config.image_size**2 <= 8 * 320**2
