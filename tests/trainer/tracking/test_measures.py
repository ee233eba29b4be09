"""Name what is tracked of an epoch, from events and records of any age."""

from __future__ import annotations

import math

from fleet_contracts.training import EpochMetrics, Tracking, TrainPlan
from tests.fleet_contracts.examples import examples
from trainer.tracking.measures import measures_of, of_stage


def test_event_and_record_give_the_same_names() -> None:
    """What the trainer writes of an epoch's event is what the cloud writes of its entry in the record."""
    data = {"seconds": 2.0, "images_per_second": 8.0, "learning_rate": 0.01, "losses": {"box_loss": 1.5},
            "val": {"box": 2.5}, "peak_memory_bytes": 3 << 20, "utilisation": 0.5, "data_wait_share": 0.25}  # fmt: skip
    entry = EpochMetrics(epoch=1, **data)  # type: ignore[arg-type]
    assert measures_of(data) == measures_of(entry.model_dump())
    assert measures_of(data)["whetstone/vram_seen_mib"] == 3.0
    assert measures_of(data)["whetstone/val/box"] == 2.5


def test_what_was_not_measured_is_left_out() -> None:
    """Zeros that stand for nothing, and losses that are no numbers, make no curve."""
    found = measures_of(
        {"seconds": 1.0, "losses": {"box": math.nan, "cls": 0.0}, "peak_memory_bytes": 0, "val": None}
    )
    assert found == {"whetstone/seconds": 1.0, "whetstone/train/cls": 0.0}
    assert measures_of({"loss": 1.5}) == {}


def test_later_stages_count_on() -> None:
    """Each stage tracks into the run's name, after the epochs of those before it; no tracking stays none."""
    plan = examples()["train_plan_that_explains_itself.v1"]
    assert isinstance(plan, TrainPlan)
    place = Tracking(mlflow_uri="http://mlflow", mlflow_experiment="boards", run_id=plan.run_id)
    assert of_stage(plan, 0) == place
    assert of_stage(plan, 1) == place.model_copy(update={"first_epoch": 4})
    assert of_stage(plan.model_copy(update={"tracking": None}), 1) is None
