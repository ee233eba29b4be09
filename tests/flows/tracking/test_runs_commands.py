"""Run `whetstone runs ...` against a real object store: what a person sees of good, old, failed and no runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.cli import main, runs
from flows.context import open_context
from flows.settings import TaskSettings, TrackingSettings, write_settings
from flows.tasks import create_task
from tests.flows.kit import CLASSES, TASK
from tests.flows.tracking.seeded import FAILED, NEW, OLD, seed
from tests.flows.up.test_services import running


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Run an object store for an installation with one task and no run."""
    made = tmp_path_factory.mktemp("runs") / "installation"
    with running(made, only=("store",)):
        with open_context(made) as ctx:
            create_task(ctx, TASK, CLASSES, TaskSettings())
        yield made


@pytest.fixture(scope="module")
def folder(empty: Path) -> Path:
    """Return the installation with three runs in it."""
    assert main(["runs", "list", "--folder", str(empty)]) == 0
    with open_context(empty) as ctx:
        seed(ctx)
    return empty


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look through a terminal with room for every column."""
    monkeypatch.setattr(runs.console, "_width", 260)


def run(folder: Path, *arguments: str) -> int:
    """Run a command on the installation."""
    return main(["runs", *arguments, "--folder", str(folder)])


def test_no_run_yet_is_told(empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before the first run the list says so, and asking for one says how to start one."""
    assert run(empty, "list", TASK) == 0
    assert "no run yet" in capsys.readouterr().out
    assert run(empty, "show", "run-1") == 2
    assert "whetstone retrain" in capsys.readouterr().err


def test_list_tells_how_runs_stand(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Newest first, with money, memory and verdict; estimates no GPU confirmed say so; old runs have dashes."""
    assert run(folder, "list", TASK) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "run-" in line]
    assert [name for line in lines for name in (NEW, OLD, FAILED) if name in line] == [NEW, OLD, FAILED]
    for told in ("finished", "6/6", "10 min 0 s", "$0.25", "5.00 GiB (not confirmed)", "4.00 GiB", "10 %", "Tesla T4",
                 "promoted, release 2"):  # fmt: skip
        assert told in lines[0], told
    assert "refused by 1 rule" in lines[1]
    assert "escapes" in lines[1]
    assert "expected" not in lines[1]
    assert "TrainingFailed: out of luck" in lines[2]


def test_list_fits_a_narrow_terminal(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eighty columns show whole names and states and say that there is more."""
    monkeypatch.setattr(runs.console, "_width", 80)
    assert run(folder, "--task", TASK) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in (NEW, OLD, FAILED, "finished", "refused", "6/6"))
    assert "--json" in told
    assert max(map(len, told.splitlines())) <= 80


def test_list_and_show_speak_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Programs get numbers, None for what nobody knows, and the documents themselves."""
    assert run(folder, "list", TASK, "--json") == 0
    new, old, failed = json.loads(capsys.readouterr().out)
    assert (new["run_id"], new["cost"], new["vram_confirmed"]) == (NEW, pytest.approx(0.25), False)
    assert (old["vram_seen"], old["data_wait"], failed["epochs"]) == (None, None, 0)
    assert run(folder, "show", NEW, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["plan"]["recipe"] == "progressive"
    assert len(shown["record"]["epochs"]) == 6
    assert shown["gate"]["promoted"] is True


def test_show_tells_everything_about_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Plan, outcome, epochs, rungs, what the watch found and the gate's measures are all there."""
    assert run(folder, "show", "run-00aa") == 0
    told = capsys.readouterr().out
    for words in ("2 epochs at 160 px, batch 32", "rung: epoch 4: batch;", "waits for data 40 %",
                  "candidate.val_map50", "candidate.slice_loss[board=b-1]", "1 x T4", "data cache hits", "75 %"):  # fmt: skip
        assert words in told, words
    assert run(folder, "show", FAILED) == 0
    assert "out of luck" in capsys.readouterr().out


def test_compare_marks_what_differs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only differences are shown unless all is asked for, and one run alone cannot be compared."""
    assert run(folder, "compare", NEW, OLD) == 0
    told = capsys.readouterr().out
    assert "≠ stages" in told
    assert "≠ candidate.slice_loss[board=b-1]" in told
    assert "≠ candidate.val_map50" in told
    assert "optimizer" not in told
    assert run(folder, "compare", NEW, OLD, "--all", "--json") == 0
    lines = {line["name"]: line for line in json.loads(capsys.readouterr().out)["lines"]}
    assert (lines["optimizer"]["differs"], lines["gate"]["values"][0]) == (False, "promoted, release 2")
    assert run(folder, "compare", NEW) == 2


def test_plot_writes_a_png(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The picture is where it was asked for; a place that cannot be is told before anything is read."""
    assert run(folder, "plot", NEW, OLD, "--out", str(tmp_path / "two.png")) == 0
    assert (tmp_path / "two.png").read_bytes().startswith(b"\x89PNG")
    assert "two.png" in capsys.readouterr().out.replace("\n", "")
    assert run(folder, "plot", NEW, "--out", str(tmp_path / "nowhere" / "x.png")) == 2
    assert run(folder, "plot", FAILED, "--out", str(tmp_path / "none.png")) == 2
    assert "NothingToDraw" in capsys.readouterr().err


def test_unknown_runs_and_tasks_name_near_ones(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A slip of the finger gets the runs it may have meant, an unknown task those that are served."""
    assert run(folder, "show", NEW[:-1] + "e") == 2
    assert NEW in capsys.readouterr().err
    assert run(folder, "compare", NEW, "run-0") == 2
    assert f"such as {NEW}, {OLD}" in capsys.readouterr().err.replace("\n", "")
    assert run(folder, "list", "plaits") == 2
    assert TASK in capsys.readouterr().err


def test_track_writes_runs_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After an outage a run is written by hand, into the folder's own store; switched off, it says so."""
    assert run(folder, "track", NEW) == 0
    assert run(folder, "track", NEW) == 0
    assert f"tracked {NEW}" in capsys.readouterr().out
    assert (folder / "tracking" / "mlflow.db").stat().st_size > 0
    with open_context(folder) as ctx:
        write_settings(folder, ctx.settings.model_copy(update={"tracking": TrackingSettings(mlflow=False)}))
    assert run(folder, "track", NEW) == 0
    assert "switched off" in capsys.readouterr().out
