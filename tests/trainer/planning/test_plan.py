"""Hold the plan of one offer to its promise: the effective batch stays, the memory fits, and reasons are given."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.trainer.planning.kit import A100, CPU, NETWORK, PROFILE, T4, effective, inputs, limited, offer
from trainer.errors import TrainerError
from trainer.planning import Network, NoOfferFits, Recipe, RecipeRefused, SnapshotSize, StageWish, make_plan
from trainer.planning.needs import gpu_needs
from trainer.vram import TrainingShape, estimate_vram, sketched_profile
from trainer.vram.calibration import PRIOR, Calibration


def test_the_same_inputs_give_the_same_plan() -> None:
    """A plan is a pure function of its inputs."""
    one = inputs(offer(memory_mib=24_000), T4, A100, CPU)
    assert make_plan(one) == make_plan(one)


def test_offers_in_another_order_give_the_same_plan() -> None:
    """Who answers first decides nothing."""
    one = inputs(T4, A100, CPU)
    assert make_plan(one) == make_plan(replace(one, offers=one.offers[::-1]))


def test_a_processor_plan_keeps_the_recipe() -> None:
    """Without a card nothing is halved, nothing is estimated, and numbers stay in full precision."""
    plan = make_plan(inputs(offer(memory_mib=0)))
    assert (plan.stages[0].batch, plan.accumulation, plan.amp, plan.vram) == (64, 1, False, None)


def test_the_default_recipe_is_one_stage_as_ever() -> None:
    """What a task trains by default has not moved: one stage, its numbers, six hours."""
    plan = make_plan(inputs(offer(memory_mib=0), recipe=Recipe()))
    (stage,) = plan.stages
    assert (stage.image_size, stage.epochs, stage.batch, stage.augmentation) == (320, 12, 16, "light")
    assert (plan.optimizer, plan.learning_rate, plan.final_lr_share) == ("AdamW", 1e-3, 0.05)
    assert (plan.freeze_layers, plan.cache, plan.workers, plan.threads) == (0, "ram", 0, 0)
    assert plan.deadline is not None
    assert (plan.deadline - inputs().now).total_seconds() == 6 * 3600
    assert (plan.devices, plan.compile, plan.validate_every, plan.precisions) == (1, False, 0, ("fp32",))


@pytest.mark.parametrize("memory_mib", [4_000, 6_000, 8_000, 16_000, 80_000])
def test_the_effective_batch_stays_the_recipes(memory_mib: int) -> None:
    """A smaller card gets a smaller batch and as many more accumulated steps."""
    plan = make_plan(inputs(offer(memory_mib=memory_mib)))
    assert effective(plan) == {64}
    assert plan.vram is not None
    assert plan.vram.peak_bytes <= memory_mib * 2**20
    assert sum(plan.vram.terms.values()) == plan.vram.peak_bytes


def test_a_card_too_small_for_one_image_is_refused_with_the_gap() -> None:
    """The error says what one image needs, what the card has, what is missing, and what would do."""
    with pytest.raises(NoOfferFits, match=r"one image of 640 px \(\d+ MiB\), got some with 500 MiB") as told:
        make_plan(inputs(offer(memory_mib=500)))
    assert "missing" in told.value.now
    assert "a card with" in told.value.now


def test_the_nearest_image_size_really_fits() -> None:
    """Where a smaller image would do, its size is named, and a plan with it succeeds."""
    small = inputs(offer(memory_mib=1_000), recipe=Recipe(image_size=1280, batch=16))
    with pytest.raises(NoOfferFits, match=r"(\d+) px on this card") as told:
        make_plan(small)
    size = int(told.value.now.split(" px on this card")[0].rsplit(" ", 1)[1])
    plan = make_plan(replace(small, recipe=Recipe(image_size=size, batch=16)))
    assert plan.stages[-1].image_size == size
    with pytest.raises(NoOfferFits):
        make_plan(replace(small, recipe=Recipe(image_size=size + 32, batch=16)))


def test_full_precision_alone_is_told_that_mixed_would_fit() -> None:
    """A recipe that forbids mixed precision hears when that is all that lacks."""
    recipe = Recipe(image_size=1280, batch=1, amp=False)
    need = estimate_vram(PROFILE, TrainingShape(1280, 1, precision="fp32", mosaic=False)).peak_bytes
    with pytest.raises(NoOfferFits, match=r"mixed precision \(amp\) on this card"):
        make_plan(inputs(offer(memory_mib=need // 2**20), recipe=recipe))


def test_a_snapshot_without_training_images_is_refused() -> None:
    """There is nothing to plan for."""
    with pytest.raises(TrainerError, match="at least one training image"):
        make_plan(inputs(images=0))


def test_no_offer_at_all_is_told() -> None:
    """Nobody offers anything."""
    with pytest.raises(TrainerError, match="a machine on offer"):
        make_plan(replace(inputs(), offers=()))


def test_a_batch_is_never_larger_than_the_data() -> None:
    """Ten images make batches of ten, and the plan says so."""
    plan = make_plan(inputs(images=10))
    assert plan.stages[0].batch == 10
    assert any("effective batch 10 instead of 64" in reason for reason in plan.reasons)


def test_a_dataset_of_a_prime_number_of_images_still_fits_a_small_card() -> None:
    """Thirteen images can only be taken at once or one by one."""
    plan = make_plan(inputs(offer(memory_mib=1_200), images=13))
    assert (plan.stages[0].batch, plan.stages[0].accumulation) == (1, 13)


def test_a_least_batch_of_the_policy_is_kept() -> None:
    """A policy that forbids small batches is refused a card that would need them, with the way out."""
    recipe = Recipe(image_size=640, batch=64)
    recipe = replace(recipe, memory=recipe.memory.model_copy(update={"least_batch": 32}))
    with pytest.raises(NoOfferFits, match="least_batch 1 instead of 32"):
        make_plan(inputs(offer(memory_mib=3_000), recipe=recipe))


def test_unconfirmed_estimates_leave_more_free_than_confirmed_ones() -> None:
    """A card that just holds a calibrated estimate is not trusted with the same estimate unconfirmed."""
    shape = TrainingShape(640, 64, precision="fp16", classes=2, mosaic=False)
    peak = estimate_vram(PROFILE, shape).peak_bytes
    card = offer(memory_mib=int(peak / 0.92 / 2**20))
    confirmed = Network("net", PROFILE, calibration=Calibration("h200", PRIOR, (("yolo11", 0, 10**8),)))
    one = inputs(card)
    sure, unsure = make_plan(replace(one, network=confirmed)), make_plan(one)
    assert sure.vram is not None
    assert unsure.vram is not None
    assert (sure.vram.confirmed, unsure.vram.confirmed) == (True, False)
    assert (sure.stages[0].batch, unsure.stages[0].batch) == (64, 32)
    assert any("not confirmed" in reason for reason in unsure.reasons)
    assert not any("not confirmed" in reason for reason in sure.reasons)


def test_a_card_sold_with_more_memory_than_it_has_is_planned_with_what_it_has() -> None:
    """A T4 is sold with 16 GiB and has 15."""
    sold = T4.model_copy(update={"gpu_memory_mib": 16_384})
    assert make_plan(inputs(sold)).stages == make_plan(inputs(T4)).stages


def test_progressive_resolution_plans_the_batch_of_every_stage() -> None:
    """Small first and target last, heavy first and light last; small images go in larger batches."""
    recipe = Recipe("progressive", epochs=20, image_size=640, batch=64)
    plan = make_plan(inputs(offer(memory_mib=4_000), recipe=recipe))
    assert [stage.image_size for stage in plan.stages] == [320, 480, 640]
    assert [stage.augmentation for stage in plan.stages] == ["heavy", "heavy", "light"]
    assert sum(stage.epochs for stage in plan.stages) == 20
    assert effective(plan) == {64}
    batches = [stage.batch for stage in plan.stages]
    assert batches == sorted(batches, reverse=True)
    assert len(set(batches)) > 1
    assert all(stage.vram is not None for stage in plan.stages)
    assert plan.vram in [stage.vram for stage in plan.stages]


def test_full_training_ends_lightly() -> None:
    """Heavy augmentation for most epochs, the recipe's own last, and the tier that goes with it."""
    plan = make_plan(inputs(recipe=Recipe("full", epochs=100, image_size=640, batch=64)))
    assert [(stage.epochs, stage.augmentation) for stage in plan.stages] == [(85, "heavy"), (15, "light")]
    assert plan.tier == "full"


def test_a_smoke_test_takes_few_images_once_on_one_device() -> None:
    """One epoch over a few images on the cheapest card, however many devices are offered."""
    many = A100.model_copy(update={"gpu_count": 8, "on_demand_price": 14.4})
    plan = make_plan(
        inputs(many, T4, recipe=Recipe("smoke", epochs=50, image_size=640, batch=64), images=9_000)
    )
    assert (plan.tier, plan.most_images, plan.devices) == ("smoke", 64, 1)
    assert [stage.epochs for stage in plan.stages] == [1]
    assert plan.offer == T4
    assert all(row.gpu_count <= 1 for row in plan.considered)


def test_the_tier_comes_from_the_size_of_the_snapshot_and_is_said() -> None:
    """Twenty thousand images are a full training, whatever the recipe is called."""
    plan = make_plan(limited(inputs(A100, images=20_000), hours=24))
    assert plan.tier == "full"
    assert "tier full: 20000 training images" in plan.reasons[0]


def test_freezing_is_a_recipe() -> None:
    """The frozen fine-tune keeps the backbone; a number of layers of one's own goes before."""
    plan = make_plan(inputs(recipe=Recipe("fine-tune-frozen", image_size=640, batch=64)))
    assert plan.freeze_layers == 10
    assert make_plan(inputs(recipe=Recipe("fine-tune-frozen", freeze_layers=4))).freeze_layers == 4


def test_stages_of_ones_own_have_to_end_at_the_target() -> None:
    """What ships is exported at the target size."""
    stages = (StageWish(640, 2, "heavy"), StageWish(320, 2))
    assert len(make_plan(inputs(recipe=Recipe(stages=stages))).stages) == 2
    with pytest.raises(RecipeRefused, match="320 px"):
        make_plan(inputs(recipe=Recipe(stages=stages[:1])))


def test_compiling_is_left_to_trainings_that_earn_it_back() -> None:
    """Automatic compiling wants a card that computes in bf16 and half an hour of training."""
    short = Recipe(image_size=640, batch=64, compile="auto")
    long = limited(inputs(A100, recipe=replace(short, epochs=50), data=SnapshotSize(60_000)), hours=20)
    assert not make_plan(inputs(A100, recipe=short)).compile
    assert make_plan(long).compile
    assert not make_plan(inputs(CPU, recipe=replace(short, compile="on"))).compile


def test_a_network_nobody_could_trace_trains_on_processors_only() -> None:
    """Without a profile a card is refused with the reason, and a processor is planned without an estimate."""
    blind = Network("net", problem="tracing failed: no such file")
    plan = make_plan(inputs(CPU, T4, network=blind))
    assert (plan.offer, plan.vram) == (CPU, None)
    assert any("memory unknown: tracing failed" in row.why for row in plan.considered)
    with pytest.raises(NoOfferFits, match="tracing failed: no such file"):
        make_plan(inputs(T4, network=blind))


def test_needs_tell_which_cards_would_do() -> None:
    """A stage's needs are shown for the whole batch, a part of it and one image, with cards that suffice."""
    needs = gpu_needs(inputs(CPU))
    assert [need.batch for need in needs] == [64, 8, 1]
    assert all(need.batch * need.accumulation == 64 for need in needs)
    assert needs[0].card_mib > needs[1].card_mib > needs[2].card_mib
    assert all(need.cards for need in needs)
    assert gpu_needs(inputs(CPU, network=Network("net"))) == ()


@pytest.mark.parametrize(
    ("larger", "smaller"),
    [
        (TrainingShape(640, 16), TrainingShape(640, 8)),
        (TrainingShape(640, 16), TrainingShape(320, 16)),
        (TrainingShape(640, 16), TrainingShape(640, 16, precision="bf16")),
        (TrainingShape(640, 16, boxes_per_image=500), TrainingShape(640, 16)),
        (TrainingShape(640, 16, optimizer="AdamW"), TrainingShape(640, 16, optimizer="SGD")),
    ],
)
def test_the_estimate_grows_with_what_takes_memory(larger: TrainingShape, smaller: TrainingShape) -> None:
    """Images, pixels, precision, boxes and optimizer states all count."""
    more, less = (estimate_vram(sketched_profile(), shape) for shape in (larger, smaller))
    assert more.peak_bytes >= less.peak_bytes
    # A few megabytes of states may lie in blocks that the allocator had left over.
    assert more.peak_bytes - more.terms["slack"] > less.peak_bytes - less.terms["slack"]


def test_crowded_images_get_a_smaller_batch() -> None:
    """The fullest image of a snapshot decides, for a batch is padded to it."""
    one = inputs(offer(memory_mib=6_000))
    crowded = replace(one, data=replace(one.data, boxes_mean=40.0, boxes_most=1_500))
    assert make_plan(crowded).stages[0].batch < make_plan(one).stages[0].batch
    assert NETWORK.profile is PROFILE
