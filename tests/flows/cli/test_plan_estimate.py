"""Ask on the command line what a training would need, and read the answer as a person would."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet_contracts.training import VramEstimate
from flows.cli import main
from flows.cli.plan_estimate import confirmation
from tests.helpers import ROOT

TINY = str(ROOT / "tests" / "trainer" / "tiny.yaml")


def test_the_table_the_cards_and_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Terms, peak with its moment, cards and formula are told, and that no GPU has confirmed it."""
    monkeypatch.setenv("COLUMNS", "160")
    picture = tmp_path / "memory.png"
    folder = ["--folder", str(tmp_path / "installation"), "--classes", "2"]
    assert main(["plan", "estimate", TINY, "--image-size", "320", *folder, "--out", str(picture)]) == 0
    told = capsys.readouterr().out
    for word in (
        "activations",
        "workspace",
        "context",
        "slack",
        "T4 16 GB",
        "published formula",
        "not confirmed",
    ):
        assert word in told
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert main(["plan", "estimate", TINY, "--image-size", "330", *folder]) == 2
    assert "352" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("confirmed", "calibration", "said"),
    [
        (False, "", "not confirmed: no run on a GPU"),
        (False, "vram-a.json", "not confirmed: vram-a.json holds no run"),
        (True, "vram-a.json", "confirmed by measured runs"),
    ],
)
def test_what_an_estimate_rests_on_is_said(confirmed: bool, calibration: str, said: str) -> None:
    """Three states, three sentences; only measured runs of the same kind confirm."""
    found = VramEstimate(terms={}, peak_bytes=1, confirmed=confirmed, calibration=calibration)
    assert confirmation(found).startswith(said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["yolo11"], "yolo11n"),
        (["yolov5u"], "yolov5nu"),
        ([TINY, "--batch", "0"], "--batch"),
        ([TINY, "--boxes", "-1"], "--boxes"),
        ([TINY, "--optimizer", "Foo"], "'MuSGD'"),
        ([TINY, "--out", "memory.jpg"], ".png"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_the_trace(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A family without a size, no image, an unknown optimizer: told at once, and nothing is traced."""
    assert main(["plan", "estimate", *arguments, "--folder", str(tmp_path / "installation")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "installation").exists()
