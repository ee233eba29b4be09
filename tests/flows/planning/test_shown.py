"""See what people are shown: the flow's pages, and the command line on a real store with a real trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from prefect.logging import disable_run_logger

from fleet_contracts import encode, keys, utc_now
from fleet_contracts.training import EpochMetrics, RunRecord, TrainPlan
from flows.champion import Entry, OriginFiles, register_origin
from flows.cli import main
from flows.context import Context, open_context
from flows.retrain import flow, runs, steps
from flows.store import MemoryStore
from tests.detection.onnx_models import TinyModel, save
from tests.flows.cli.test_commands import BASE, dataset
from tests.flows.kit import CLASSES, TASK
from tests.flows.retrain.conftest import ready, store
from tests.flows.retrain.simulated import SimulatedTrainer
from tests.flows.up.test_services import running
from tests.helpers import own_sleep

__all__ = ["ready", "store"]


class RecordingTrainer(SimulatedTrainer):
    """Deliver a record too, as a real trainer does."""

    def _deliver(self, plan: TrainPlan) -> None:
        super()._deliver(plan)
        epochs = tuple(
            EpochMetrics(epoch=number + 1, seconds=4.0, images_per_second=8.0, learning_rate=1e-3, losses={})
            for number in range(sum(stage.epochs for stage in plan.stages))
        )
        record = RunRecord(
            task_id=TASK, run_id=plan.run_id, snapshot_id=plan.snapshot_id, state="finished", seed=0, versions={},
            device="cpu", started_at=utc_now(), ended_at=utc_now(), epochs=epochs,
        )  # fmt: skip
        MemoryStore.put(self._store, keys.run(TASK, plan.run_id, "run.json"), encode(record))


def test_a_flow_shows_its_plan_and_what_came_of_it(
    ready: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One page before a machine is taken, one after training, each under the run's name."""
    trainer = RecordingTrainer(ready, tmp_path)
    trainer._offers = (trainer.offers()[0].model_copy(update={"cpu_count": 2}),)
    pages: dict[str, str] = {}
    own_sleep(monkeypatch, lambda _: None)
    monkeypatch.setattr(steps, "lenders_of", lambda _: (trainer,))
    monkeypatch.setattr(steps, "providers_of", lambda *_: (trainer,))
    monkeypatch.setattr(flow, "show", lambda key, page, _: pages.update({key: page}))
    monkeypatch.setattr("flows.retrain.billing.billed", lambda *_: nullcontext())
    for name in ("create_progress_artifact", "update_progress_artifact"):
        monkeypatch.setattr(f"prefect.artifacts.{name}", lambda **_: None)
    with disable_run_logger():
        run = flow.begin.fn(ready, TASK, False).run
        runs.take_run(ready, run.run_id, "test")
        flow.train.fn(ready, flow.prepare.fn(ready, run))
    assert set(pages) == {f"{run.run_id}-plan", f"{run.run_id}-outcome"}
    assert "the only way that fits" in pages[f"{run.run_id}-plan"]
    assert "| images/s |" in pages[f"{run.run_id}-outcome"]
    assert "| 8.0 |" in pages[f"{run.run_id}-outcome"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Run an object store for an installation with a task, old data and a real network as origin."""
    made = tmp_path_factory.mktemp("plan") / "installation"
    with running(made, only=("store",)):
        settings = made / "task.toml"
        settings.write_text(
            "image_size = 640\n[recipe]\nimage_size = 640\nbatch = 8\n[limits]\nhours = 3.0\n"
        )
        for arguments in (
            ["task", "create", TASK, "--classes", ",".join(CLASSES), "--settings", str(settings)],
            ["labels", "import", str(dataset(made / "old", 24)), "--task", TASK],
        ):
            assert main([*arguments, "--folder", str(made)]) == 0
        with open_context(made) as ctx:
            onnx = save(
                TinyModel(rows=((0.0, 0.0, 5.0, 5.0, 0.9, 1),), class_names=CLASSES), made / "origin.onnx"
            )
            register_origin(ctx, TASK, OriginFiles(BASE, onnx), Entry("AGPL-3.0", "a test", "test"))
        yield made


def shown(folder: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Return the exit code and all that was told by `plan show`."""
    code = main(["plan", "show", TASK, *arguments, "--folder", str(folder)])
    told = capsys.readouterr()
    return code, told.out + told.err


def test_plan_show_traces_the_origin_and_says_what_a_card_would_need(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine without a card the plan is for the processor, and the memory a card would need is told."""
    monkeypatch.setenv("COLUMNS", "200")
    code, told = shown(folder, capsys)
    assert code == 0
    assert "would be planned now" in told
    assert "what it would take of a GPU (not confirmed)" in told
    assert "8 x 1" in told
    assert list((folder / "cache" / "profiles").iterdir())
    assert not list((folder / "work").glob("run-*"))


def test_plan_show_on_imagined_offers(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cards that are not there are weighed like others; one too small is refused with what would do."""
    monkeypatch.setenv("COLUMNS", "200")
    code, told = shown(folder, capsys, "--offer", "T4=0.35", "--offer", "A100=1.80", "--markdown")
    assert code == 0
    assert "on **T4 of imagined**" in told
    assert "A100" in told
    code, told = shown(folder, capsys, "--offer", "Abacus:0.4=0.01")
    assert code == 2
    assert "NoOfferFits" in told
    assert "a card with" in told


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(("--offer", "cheap!"), "2xA100:80=3.60"), (("--folder", "nowhere"), "such file")],
)
def test_plan_show_tells_what_is_wrong(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], expected: str
) -> None:
    """An offer that cannot be read, and a folder that is no installation."""
    place = () if "--folder" in arguments else ("--folder", str(folder))
    assert main(["plan", "show", TASK, *arguments, *place]) == 2
    assert expected in capsys.readouterr().err
