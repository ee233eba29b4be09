"""Test the training bench's children for real, tiny: settings read back, kills, rows that are kept."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bench.gpu_parts import ladder
from bench.gpu_parts.kept import Kept, still_to_do
from bench.train_parts import contend
from bench.train_parts.contend import ContenderDied, Ready, make_start, module_command, run_measured
from bench.train_parts.data import TwoLayouts, write_both
from bench.train_parts.kills import Killer, Progress, killed_run, training_child
from bench.train_parts.plan import Case
from tests.helpers import ROOT
from tests.trainer.scenes import MODEL, NAMES, SIZE, items
from trainer.backend_job import BackendEvent

CASE = Case("tiny", str(MODEL), SIZE, 4, 2, 12, 2, 2e-3, "full")
OF_ITSELF = {"workers", "amp", "project", "batches"}
"""What is said in other words by the two, or by ultralytics for processors only."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TwoLayouts:
    """Write both layouts of sixteen scenes."""
    return write_both(tmp_path_factory.mktemp("scenes"), NAMES, iter(items(16)))


@pytest.fixture(scope="module")
def ready(data: TwoLayouts, tmp_path_factory: pytest.TempPathFactory) -> Ready:
    """Return the tiny case with start weights."""
    start = make_start(CASE.start, NAMES, tmp_path_factory.mktemp("start") / "start.pt", 0)
    return Ready(CASE, data, start, 0, cuda=False)


@pytest.fixture(scope="module")
def both(ready: Ready, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Train plain and ours, and return what each had in force when training began, and what it told."""
    work = tmp_path_factory.mktemp("both")
    told: dict[str, dict[str, Any]] = {}
    for name in ("plain", "ours"):
        folder = work / name
        folder.mkdir()
        hook = {"read_back": str(folder / "in-force.json")}
        spec = {"job": ready.job(folder / "out").model_dump(mode="json"), "told": str(folder / "told.json"),
                "data": str(ready.data.train_yaml), "folder": str(folder), "hook": hook}  # fmt: skip
        run_measured(module_command(name, spec), folder / "log.txt")
        told[name] = json.loads((folder / "told.json").read_text())
        told[name]["in_force"] = json.loads((folder / "in-force.json").read_text())
    return told


def test_both_train_with_the_same_settings(both: dict[str, dict[str, Any]]) -> None:
    """Optimizer groups, effective batch, rates and augmentation are read back from the running trainers."""
    plain, ours = both["plain"]["in_force"], both["ours"]["in_force"]
    differences = {
        name: (plain[name], ours[name])
        for name in plain
        if name not in OF_ITSELF and plain[name] != ours[name]
    }
    assert differences == {}
    assert (ours["nbs"], ours["accumulate"], ours["loader_batch"]) == (8, 2, 4)
    assert plain["groups"][0]["initial_lr"] == CASE.learning_rate
    assert plain["mosaic"] == 1.0
    assert plain["amp_on"] is ours["amp_on"] is False


def test_both_see_the_same_images_and_boxes(data: TwoLayouts) -> None:
    """The label files say what the index says, and the images are the same files."""
    rows = json.loads((data.ours / "dataset.json").read_text())["items"]
    for row in rows:
        image = data.ours / "plain" / "images" / row["split"] / Path(row["file"]).name
        assert image.samefile(data.ours / row["file"])
        label = image.parent.parent.parent / "labels" / row["split"] / f"{image.stem}.txt"
        assert [[float(word) for word in line.split()] for line in label.read_text().splitlines()] == row[
            "boxes"
        ]


def test_both_tell_losses_ends_and_weights(both: dict[str, dict[str, Any]]) -> None:
    """Every epoch has an end and a loss, and the weights that are measured afterwards are there."""
    for told in both.values():
        assert len(told["epoch_ends"]) == len(told["losses"]) == CASE.epochs
        assert told["epoch_ends"] == sorted(told["epoch_ends"])
        assert Path(told["weights"]).is_file()
    assert 0.0 < both["plain"]["data_wait_share"] < 1.0
    assert both["plain"]["uncounted_s"] > 0.0


def test_a_kill_hits_a_living_child_and_the_next_goes_on_with_the_very_same_weights(
    ready: Ready, tmp_path: Path
) -> None:
    """The moment was drawn before; less than an epoch is lost; the hash is the one told before the kill."""
    job = ready.job(tmp_path / "killed", epochs=3, accumulation=1, threads=1)
    result, killer = killed_run(job, [1.3], Progress(epoch_s=0.5, start_s=1.0, images=CASE.images))
    (kill,) = killer.kills
    assert (kill.asked, kill.proven) == (1.3, True)
    assert kill.at >= 1.3
    assert kill.lost <= 1.0
    assert result.weights.is_file()


def test_a_moment_that_finds_no_living_child_is_no_kill() -> None:
    """Between two children nobody is there: the moment stays due, and is not counted as a hit."""
    killer = Killer([0.5], Progress(0.5, 0.0, 12))
    killer.listen(BackendEvent("epoch", 1))
    killer._kill()
    assert (training_child(), killer.kills, killer._left) == (None, [], [0.5])


def test_a_contender_that_dies_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    """The bench ends with what the process said, not with a missing file."""
    with pytest.raises(ContenderDied, match="No module named"):
        run_measured(module_command("nothing", {}), tmp_path / "log.txt")


def test_contenders_get_nobodys_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a shell sets for its own runs must not slow one contender and not the other."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert "OMP_NUM_THREADS" not in contend.environment()
    assert contend.environment()["YOLO_OFFLINE"] == "1"


def test_rows_are_kept_and_a_second_call_goes_on_with_the_next(tmp_path: Path) -> None:
    """What an earlier call left in another folder is taken over; no row is begun that time is too short for."""
    earlier, out = tmp_path / "results", tmp_path / "out"
    first = Kept(earlier, "rows")
    first.add("a", {"x": 1})
    first.write(device="a card")
    again = Kept(out, "rows", (earlier,))
    assert (again.rows, again.head) == ({"a": {"x": 1}}, {"device": "a card"})
    now = iter([0.0, 1.0, 301.0, 302.0])
    began = list(still_to_do(["a", "b", "c"], again, 440.0, lambda: next(now)))
    assert began == ["b"], "the second row would have ended at 602 of 440 seconds"
    assert json.loads(first.path.read_text()) == {"device": "a card", "rows": {"a": {"x": 1}}}


def test_a_listed_crash_walks_down_on_a_simulated_card_and_says_that_it_was_one(tmp_path: Path) -> None:
    """The row says how it survived and that no card was there; nothing is claimed about plain training."""
    assert ladder.main(["--out", str(tmp_path), "--simulated", "--smoke", "--only", "8s-640-val"]) == 0
    told = json.loads((tmp_path / "ladder-simulated.json").read_text())
    row = told["rows"]["8s-640-val"]
    assert row["survived"] is True
    assert (row["on"], row["plain_died"]) == ("simulated, CPU", None)
    assert row["rungs"][0]["moment"] == "validation"
    assert (told["ladder.survived"], told["ladder.simulated_survived"]) == (0, 1)
    assert not any(tmp_path.glob("ladder.json"))


@pytest.mark.parametrize(
    ("arguments", "program"),
    [
        ([], "bench/gpu_checks.py"),
        (["--only", "training"], "bench/gpu_checks.py --out OUT --only training"),
        (["vram"], "bench/vram.py"),
        (["ladder", "--smoke"], "-m bench.gpu_parts.ladder --out OUT --smoke"),
        (["train"], "-m bench.gpu_parts.overhead"),
    ],
)
def test_the_script_runs_the_part_that_was_asked_for(
    arguments: list[str], program: str, tmp_path: Path
) -> None:
    """Without a part it runs the checks, as it always did; what it does not know goes to the part."""
    environment = {**os.environ, "OUT": str(tmp_path), "PYTHON": "echo"}
    done = subprocess.run(
        ["sh", "bench/gpu.sh", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.replace(str(tmp_path), "OUT").splitlines()[-1].startswith(program)


@pytest.mark.soak
@pytest.mark.parametrize("part", ["checks", "train"])
def test_the_other_parts_run_tiny_without_a_card(part: str, tmp_path: Path) -> None:
    """Nobody should find a typing error with a rented card."""
    environment = {**os.environ, "OUT": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        ["sh", "bench/gpu.sh", part, "--smoke"], cwd=ROOT, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (written,) = tmp_path.glob("*.json")
    told = json.loads(written.read_text())
    assert not any(key.endswith(".failed") for key in told), told
