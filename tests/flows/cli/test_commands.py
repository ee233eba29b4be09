"""Run the command line against a real object store: what a person types, sees, and gets told when it is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import typer
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Cancelled

from flows.champion import Entry
from flows.cli import main
from flows.cli.app import JoinedGroup, app
from flows.context import open_context
from flows.database.schema import CandidateRow, RunRow, SnapshotMemberRow
from flows.errors import StoreAway
from flows.retrain.first import first_release
from flows.settings import write_settings
from flows.up import credentials
from tests.flows.kit import CLASSES, box_label, picture
from tests.flows.up.test_services import running
from tests.helpers import ROOT

BASE = ROOT / "demo" / "assets" / "demo-base.pt"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Run an object store for an installation with one task."""
    made = tmp_path_factory.mktemp("cli") / "installation"
    with running(made, only=("store",)):
        settings = made / "task.toml"
        settings.write_text("trigger_threshold = 7\nimage_size = 192\n")
        arguments = ["task", "create", "plates", "--classes", ", ".join(CLASSES), "--settings", str(settings)]
        assert main([*arguments, "--folder", str(made)]) == 0
        yield made


def run(folder: Path, *arguments: str) -> int:
    """Run a command on the installation."""
    return main([*arguments, "--folder", str(folder)])


def dataset(folder: Path, count: int) -> Path:
    """Write old data as a person would bring it."""
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    rows = ["stem,split"]
    for number in range(count):
        (folder / "images" / f"old-{number}.jpg").write_bytes(picture(1000 + number))
        box = box_label(number % 3)
        line = f"{box.class_id} {box.cx} {box.cy} {box.width} {box.height}\n"
        (folder / "labels" / f"old-{number}.txt").write_text(line)
        rows.append(f"old-{number},base")
    (folder / "samples.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_task_is_founded_whole(folder: Path) -> None:
    """Creating a task makes its class list, its settings and a channel that can be signed for; twice is once."""
    with open_context(folder) as ctx:
        task = ctx.settings.task("plates")
        assert (task.trigger_threshold, task.image_size) == (7, 192)
        offline = ctx.path(ctx.settings.releases.keys_folder) / "offline"
        assert (offline / "root.pem").stat().st_mode & 0o777 == 0o600
    settings = folder / "task.toml"
    arguments = ["task", "create", "plates", "--classes", ",".join(CLASSES), "--settings", str(settings)]
    assert run(folder, *arguments) == 0
    # Limits written by hand, and no file: nothing of a task is forgotten because it is created again.
    assert run(folder, *arguments[:-2]) == 0
    with open_context(folder) as ctx:
        assert ctx.settings.task("plates").trigger_threshold == 7


def test_task_with_another_class_list_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same task under other names would give ids another meaning; both lists are told."""
    assert run(folder, "task", "create", "plates", "--classes", "dent,scratch") == 2
    told = capsys.readouterr().err
    assert "ClassListConflict" in told
    assert "dent" in told


def test_unknown_setting_is_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every wrong key of a settings file is told at once, with the file's name."""
    path = tmp_path / "wrong.toml"
    path.write_text("trigger_treshold = 7\nimage_size = 33\n")
    assert run(folder, "task", "create", "other", "--classes", "a", "--settings", str(path)) == 2
    told = capsys.readouterr().err.replace("\n", " ")
    assert "trigger_treshold" in told
    assert "image_size" in told
    assert "wrong.toml" in told


def test_old_data_in_and_shown(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Imported data are counted, importing again changes nothing, and status shows them."""
    old = dataset(tmp_path / "old", 12)
    assert run(folder, "labels", "import", str(old), "--task", "plates") == 0
    assert "12 new samples" in capsys.readouterr().out
    assert run(folder, "labels", "import", str(old), "--task", "plates") == 0
    assert "0 new samples" in capsys.readouterr().out
    assert run(folder, "status", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    (task,) = (one for one in shown["tasks"] if one["task_id"] == "plates")
    assert (task["samples"], task["labelled"], task["mined"]) == (12, 12, 0)
    assert shown["services"]["services"]["store"]["state"] == "ready"
    assert run(folder, "status") == 0
    assert "class list" in capsys.readouterr().out
    assert run(folder, "labels", "refused", "--task", "plates") == 0


def test_boxes_are_asked_for_frames_and_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Asking names the command; the list says how it stands; what cannot be asked for says why."""
    assert run(folder, "capture", "list", "--task", "plates") == 0
    assert "no box was asked" in capsys.readouterr().out
    wish = ("--frames", "200", "--class", "scratch", "--low", "0.3", "--high", "0.6", "--hours", "8")
    assert run(folder, "capture", "--task", "plates", "--device", "box-1", *wish) == 2
    assert "devices of task plates: none yet" in capsys.readouterr().err
    with open_context(folder) as ctx:
        task = ctx.settings.task("plates").model_copy(update={"devices": ("box-1",)})
        write_settings(folder, ctx.settings.with_task("plates", task))
    assert run(folder, "capture", "--task", "plates", "--device", "box-1", *wish) == 0
    assert "asked box-1 for 200 frames until" in capsys.readouterr().out
    assert run(folder, "capture", "list", "--task", "plates") == 0
    told = capsys.readouterr().out
    assert "0/200" in told
    assert "waiting" in told
    assert run(folder, "status") == 0
    assert "1 open, 0 of 200 frames" in capsys.readouterr().out
    assert run(folder, "capture", "--task", "plates") != 0
    assert run(folder, "capture", "list", "--task", "no-such-task") == 2


def test_first_release_from_the_shipped_weights(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Weights are entered with licence and reason, exported, and released; the gate's refusal can be overruled."""
    words = ["--task", "plates", "--licence", "AGPL-3.0-or-later", "--reason", "the line starts"]
    assert run(folder, "origin", "register", str(BASE), *words) == 2
    refused = capsys.readouterr().err
    assert "CannotStart" in refused
    assert "overrule" in refused
    assert run(folder, "origin", "register", str(BASE), *words, "--overrule", "pictures of noise") == 0
    assert "release 1" in capsys.readouterr().out
    with open_context(folder) as ctx:
        again = first_release(ctx, "plates", BASE, Entry("AGPL-3.0", "again", "test"), overrule="noise")
        assert again.release.version == 1
        assert "pictures of noise" in again.release.lineage.reason
        assert again.gate is not None
        assert again.gate.measures["candidate.val_recall"] <= 1.0


def test_class_is_added_by_one_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Adding a class appends it with a reason; adding it again changes nothing."""
    for _ in range(2):
        assert run(folder, "classes", "add", "stain", "--task", "plates", "--reason", "seen today") == 0
        assert "class list 2: scratch, missing, misplaced, stain" in capsys.readouterr().out
    assert run(folder, "classes", "list", "--task", "plates") == 0
    assert "3 stain" in capsys.readouterr().out


def test_runs_are_listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A task without a run says so; one with runs shows why each ended."""
    from fleet_contracts import utc_now

    assert run(folder, "runs", "--task", "plates") == 0
    assert "no run yet" in capsys.readouterr().out
    with open_context(folder) as ctx, ctx.database.session() as session:
        session.add(
            RunRow(
                run_id="run-0123456789abcdef", task_id="plates", snapshot_id="a" * 64, start_kind="origin",
                start_sha256="b" * 64, recipe={}, state="refused", attempts=1, flow_run="", reason="too slow",
                started_at=utc_now(), touched_at=utc_now(), ended_at=utc_now(),
            )
        )  # fmt: skip
    assert run(folder, "runs", "--task", "plates") == 0
    assert "too" in capsys.readouterr().out


def test_catalog_is_rebuilt_and_samples_forgotten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The catalog comes back from the bucket; a forgotten sample is gone and who trained on it is named."""
    assert run(folder, "catalog", "rebuild", "--task", "plates") == 0
    assert "12 samples" in capsys.readouterr().out
    with open_context(folder) as ctx:
        sample = next(iter(ctx.store.list("tasks/plates/samples/"))).key.rsplit("/", 1)[1][:64]
    words = ["--task", "plates", "--reason", "a face in the picture"]
    assert run(folder, "forget", "--sample", sample, *words) == 0
    assert "1 samples forgotten" in capsys.readouterr().out


def test_forgetting_names_releases_whose_probe_images_remain(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A signed release is never changed, so whoever forgets is told which ones may show the sample."""
    from fleet_contracts import utc_now

    sample, snapshot, now = "5" * 64, "6" * 64, utc_now()
    with open_context(folder) as ctx, ctx.database.session() as session:
        session.add(
            SnapshotMemberRow(task_id="plates", snapshot_id=snapshot, sample_id=sample, revision=1, split="val")
        )
        session.add(
            RunRow(
                run_id="run-forgotten", task_id="plates", snapshot_id=snapshot, start_kind="origin",
                start_sha256="b" * 64, recipe={}, state="finished", attempts=1, flow_run="",
                started_at=now, touched_at=now, ended_at=now,
            )
        )  # fmt: skip
        session.add(
            CandidateRow(
                candidate_id="run-forgotten", task_id="plates", run_id="run-forgotten", model_id="7" * 64,
                state="promoted", channel="stable", release_version=41, collected_at=now,
            )
        )  # fmt: skip
    assert run(folder, "forget", "--sample", sample, "--task", "plates", "--reason", "asked to") == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "7" * 64 in told
    assert "releases of these models: 41;" in told
    assert "probe images remain" in told


def test_device_gets_its_password(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A device is let in by one command that says where its password lies."""
    assert run(folder, "device", "add", "press-7") == 0
    assert "press-7" in capsys.readouterr().out
    assert "press-7" in credentials.broker_users(folder)
    assert run(folder, "device", "add", "Press 8") == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["runs", "--task", "plates"],
        ["classes", "list", "--task", "plates"],
        ["retrain", "--task", "plates"],
    ],
)
def test_wrong_folder_is_told(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder without an installation gets the file's name and what to do, and nothing is made in it."""
    assert run(tmp_path, *arguments) == 2
    told = capsys.readouterr().err
    assert "whetstone.toml" in told
    assert "whetstone up" in told
    assert not list(tmp_path.iterdir())


def test_unknown_task_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Asking for a task that is not served names those that are."""
    assert run(folder, "retrain", "--task", "plaits") == 2
    assert "plates" in capsys.readouterr().err


def test_help_answers_without_the_heavy_parts() -> None:
    """`whetstone --help` loads neither Prefect, nor OpenCV, nor a database."""
    code = (
        "import sys\n"
        "from flows.cli import main\n"
        "assert main(['--help']) == 0\n"
        "heavy = {'prefect', 'cv2', 'sqlalchemy', 'onnxruntime', 'torch', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, env=env, cwd=ROOT, timeout=60, capture_output=True)


def test_commands_of_others_join() -> None:
    """The demo joins by its entry point, where it is installed, and never hides a command of ours."""
    from click import Context as ClickContext
    from typer.main import get_command

    group = get_command(app)
    assert isinstance(group, JoinedGroup)
    context = ClickContext(group)
    names = group.list_commands(context)
    assert {"up", "ingest", "retrain", "status", "task", "classes", "labels", "forget"} <= set(names)
    if "demo" in names:
        assert group.get_command(context, "demo") is not None
    assert group.get_command(context, "no-such-command") is None


def test_every_command_has_a_help_that_can_be_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    """No help text holds what rich takes for markup; one that did ended the command with a traceback."""
    commands: dict[tuple[str, ...], Any] = {(): typer.main.get_command(app)}
    while commands:
        path, command = commands.popitem()
        assert main([*path, "--help"]) == 0
        told = "".join(capsys.readouterr().out.replace("│", " ").split())
        assert "Usage:whetstone" + "".join(path) in told
        own = getattr(command, "commands", {})
        commands |= {(*path, name): child for name, child in own.items()}
        if path == ("plan", "show"):
            assert "T4=0.35/0.11" in told


@pytest.mark.parametrize(
    ("state", "said"),
    [(Cancelled(message="Deployment concurrency limit reached."), "concurrency limit"), (None, "no reason")],
)
def test_retraining_that_was_not_run_is_told(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    state: State[Any] | None,
    said: str,
) -> None:
    """Waiting for a flow run that Prefect cancels is no success: the reason is told, and where to look."""
    ended = FlowRun(flow_id=uuid4(), state=state)
    monkeypatch.setattr("prefect.deployments.run_deployment", lambda *_, **__: ended)
    assert run(folder, "retrain", "--task", "plates", "--wait") == 2
    told = capsys.readouterr().err
    assert said in told
    assert "whetstone status" in told


def test_retraining_without_a_prefect_server_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two lines instead of a traceback: which server was expected, and what to start."""

    def nobody(*_: object, **__: object) -> FlowRun:
        raise httpx.ConnectError("Connection refused")

    monkeypatch.setattr("prefect.deployments.run_deployment", nobody)
    assert run(folder, "retrain", "--task", "plates") == 2
    told = capsys.readouterr().err
    assert "Connection refused" in told
    assert "whetstone up" in told


def test_store_that_is_away_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Services try again; a command has ended, so a person is asked whether the services run."""

    def away(_: Path) -> None:
        raise StoreAway(expected="an answer", got="nothing", where="store", now="It is tried again.")

    monkeypatch.setattr("flows.context.open_context", away)
    assert run(folder, "runs", "--task", "plates") == 2
    assert "whetstone up" in capsys.readouterr().err
