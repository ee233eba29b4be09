"""The package itself stays light, and every name it offers is there."""

from __future__ import annotations

import subprocess
import sys

import pytest

import detection

MODULES = (
    "detection", "detection.decision", "detection.decode", "detection.detections", "detection.errors",
    "detection.letterbox", "detection.memory", "detection.metrics", "detection.model_file",
    "detection.onnx_engine", "detection.ort_session", "detection.providers", "detection.session",
)  # fmt: skip


def test_every_name_is_offered() -> None:
    """`__all__` is sorted and each name in it can be had."""
    assert detection.__all__ == sorted(detection.__all__)
    assert all(getattr(detection, name) is not None for name in detection.__all__)
    with pytest.raises(AttributeError, match="no_such"):
        _ = detection.no_such  # type: ignore[attr-defined]


def test_importing_loads_no_engine() -> None:
    """Reading rules and metrics needs neither onnxruntime nor OpenCV, and nothing needs torch."""
    script = (
        "import sys, detection, detection.decision, detection.metrics\n"
        "heavy = {'onnxruntime', 'cv2', 'torch', 'onnx'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("module", MODULES)
def test_each_module_can_be_imported_first(module: str) -> None:
    """No module depends on another having been imported before it."""
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
