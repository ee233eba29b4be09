"""Plan runs: the same inputs give the same plan, and what does not fit is said before anything is rented."""

from __future__ import annotations

import pytest

from fleet_contracts.training import GpuOffer, StartWeights
from tests.trainer.scenes import TASK, class_list
from trainer.errors import TrainerError
from trainer.plan import PlanInputs, Recipe, make_plan
from trainer.vram import ModelSize, TrainingShape, estimate_vram


def inputs(memory_mib: int = 0, *, images: int = 500, recipe: Recipe | None = None) -> PlanInputs:
    """Return inputs for an offer with so much GPU memory; 0 is a machine without one."""
    from fleet_contracts.base import utc_now

    return PlanInputs(
        task_id=TASK, run_id="run-" + "1" * 16, snapshot_id="2" * 64,
        start=StartWeights(kind="origin", sha256="3" * 64, key="origins/x"), class_list=class_list(),
        train_images=images, recipe=recipe or Recipe(image_size=640, batch=64),
        offer=GpuOffer(provider="local", offer_id="here", gpu="some", gpu_count=int(memory_mib > 0),
                       gpu_memory_mib=memory_mib, priced_at=utc_now()),
    )  # fmt: skip


def test_the_same_inputs_give_the_same_plan() -> None:
    """A plan is a pure function of its inputs."""
    one = inputs(24_000)
    assert make_plan(one) == make_plan(one)


def test_a_processor_plan_keeps_the_recipe() -> None:
    """Without a card nothing is halved, nothing is estimated, and numbers stay in full precision."""
    plan = make_plan(inputs(0))
    assert (plan.stages[0].batch, plan.accumulation, plan.amp, plan.vram) == (64, 1, False, None)


@pytest.mark.parametrize("memory_mib", [4_000, 6_000, 8_000, 16_000, 80_000])
def test_the_effective_batch_stays_the_recipes(memory_mib: int) -> None:
    """A smaller card gets a smaller batch and as many more accumulated steps."""
    plan = make_plan(inputs(memory_mib))
    assert plan.stages[0].batch * plan.accumulation == 64
    assert plan.vram is not None
    assert plan.vram.peak_bytes <= memory_mib * 2**20
    assert sum(plan.vram.terms.values()) == plan.vram.peak_bytes


def test_a_card_too_small_for_one_image_is_refused_with_the_gap() -> None:
    """The error says what one image needs and what the card has."""
    with pytest.raises(TrainerError, match=r"one image of 640 px \(\d+ MiB\), got some with 500 MiB"):
        make_plan(inputs(500))


def test_a_snapshot_without_training_images_is_refused() -> None:
    """There is nothing to plan for."""
    with pytest.raises(TrainerError, match="at least one training image"):
        make_plan(inputs(images=0))


def test_a_batch_is_never_larger_than_the_data() -> None:
    """Ten images make batches of ten."""
    assert make_plan(inputs(images=10)).stages[0].batch == 10


@pytest.mark.parametrize(
    ("larger", "smaller"),
    [
        (TrainingShape(640, 16, amp=False), TrainingShape(640, 8, amp=False)),
        (TrainingShape(640, 16, amp=False), TrainingShape(320, 16, amp=False)),
        (TrainingShape(640, 16, amp=False), TrainingShape(640, 16, amp=True)),
        (TrainingShape(640, 16, amp=False, boxes_per_image=500), TrainingShape(640, 16, amp=False)),
        (
            TrainingShape(640, 16, amp=False, optimizer="AdamW"),
            TrainingShape(640, 16, amp=False, optimizer="SGD"),
        ),
    ],
)
def test_the_estimate_grows_with_what_takes_memory(larger: TrainingShape, smaller: TrainingShape) -> None:
    """Images, pixels, precision, boxes and optimizer states all count."""
    assert estimate_vram(ModelSize(), larger).peak_bytes > estimate_vram(ModelSize(), smaller).peak_bytes
