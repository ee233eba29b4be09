"""Train a run for real on the simulated cloud, and have its first machine taken away in the middle."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from fleet_contracts import keys, utc_now
from fleet_contracts.training import RunEvent
from flows.champion import Entry, OriginFiles, register_origin
from flows.context import Context, open_context
from flows.gpus.leases import MACHINE_ENDED, LeaseBook
from flows.gpus.money import cost_of
from flows.gpus.simulated.cloud import TAKEN_AWAY
from flows.gpus.simulated.provider import SimulatedProvider
from flows.retrain import steps
from flows.settings import (
    LabelSettings,
    LimitSettings,
    RecipeSettings,
    Settings,
    StoreSettings,
    TaskSettings,
    write_settings,
)
from flows.store.credentials import write_credentials
from flows.tasks import create_task
from tests.detection.onnx_models import TinyModel, save
from tests.flows.gpus.simulated.rig import section
from tests.flows.kit import CLASSES, TASK, UNTRACKED, sent_and_labelled
from tests.flows.store.servers import CREDENTIALS, rclone_store
from tests.helpers import ROOT

SAFE = 2
"""Epochs that are uploaded when the first machine is taken away."""
EPOCHS = 5
RECIPE = RecipeSettings(epochs=EPOCHS, batch=8, image_size=128, threads=1, augmentation="none")
TASK_SETTINGS = TaskSettings(trigger_threshold=5, recipe=RECIPE, limits=LimitSettings(spot=True))


@pytest.fixture
def rented(tmp_path: Path) -> Iterator[Context]:
    """Return an installation on a real store that may train on a simulated cloud only, with a real origin."""
    folder, data = tmp_path / "installation", tmp_path / "data"
    data.mkdir()
    with rclone_store(data) as store:
        write_credentials(folder / "secrets" / "store.json", CREDENTIALS)
        write_settings(folder, Settings(
            installation="plant7", train_here=False, tracking=UNTRACKED, labels=LabelSettings(settle_seconds=0),
            store=StoreSettings(endpoint=store.endpoint, bucket="whetstone-test"),
            providers={"cloud": section(preempt_after_epochs=SAFE)},
        ))  # fmt: skip
        with open_context(folder) as opened:
            ctx = create_task(opened, TASK, CLASSES, TASK_SETTINGS)
            weights = ROOT / "demo" / "assets" / "demo-base.pt"
            onnx = save(TinyModel(class_names=CLASSES), tmp_path / "origin.onnx")
            register_origin(ctx, TASK, OriginFiles(weights, onnx), Entry("AGPL-3.0", "a test", "test"))
            sent_and_labelled(ctx, 24)
            yield ctx


def test_a_run_outlives_its_machine(rented: Context) -> None:
    """Taken away without a word it goes on in the next region from the bucket, and loses an epoch at most."""
    run = steps.begin(rented, TASK, force=True).run
    assert run is not None
    lenders = steps.lenders_of(rented)
    (cloud,) = lenders
    assert isinstance(cloud, SimulatedProvider)
    plan = steps.prepare(rented, run, *lenders)
    assert plan.spot
    told: list[RunEvent] = []
    steps.train(rented, plan, told.append, *lenders)

    first, second = cloud.cloud.instances()
    assert first.why == TAKEN_AWAY, "the fault did not fire"
    assert (first.region, first.order.spot, second.region, second.order.spot) == ("east", True, "west", True)
    assert second.why == "its command ended with 0"
    assert not cloud.cloud.disk(first.name).exists()
    assert rented.store.stat(keys.run(TASK, run.run_id, "result.json")) is not None
    _assert_little_lost(told)
    _assert_paid_for(rented, run.run_id, cloud)
    kept = [path.read_bytes() for path in cloud.cloud.place.rglob("*") if path.is_file()]
    assert not any(CREDENTIALS.secret_key.encode() in content for content in kept)


def _assert_little_lost(told: list[RunEvent]) -> None:
    resumed = [event.epoch for event in told if event.kind == "resumed"]
    assert resumed
    assert resumed[0] >= SAFE
    ways = [event.epoch for event in told if event.kind in ("epoch", "resumed")]
    assert all(after >= before - 1 for before, after in pairwise(ways)), ways
    assert max(ways) == EPOCHS


def _assert_paid_for(ctx: Context, run_id: str, cloud: SimulatedProvider) -> None:
    book = LeaseBook(ctx.database)
    assert book.live() == ()
    leases = book.of_run(run_id)
    assert [one.end_reason for one in leases][0] == MACHINE_ENDED
    now = utc_now()
    for lease, machine in zip(leases, cloud.cloud.instances(), strict=True):
        # We count from asking to hearing of the end, its seller from the order to the end itself.
        assert (cost_of(lease, now) or 0.0) >= machine.bill(now) > 0.0
