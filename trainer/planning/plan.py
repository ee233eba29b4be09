"""Make the plan of a run from what is known before anything is rented; pure.

(1) what the recipe means: tier, stages, effective batch
(2) what finished runs say about memory
(3) every way to train it: offer, devices, number format, price; the largest batch that fits each
(4) the cheapest that keeps deadline and price; every other one says why it lost
(5) how the chosen machine's host is used
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from fleet_contracts.training import Prediction, TrainPlan, TrainStage
from trainer.errors import TrainerError
from trainer.planning.choosing import Bounds, Choice, choose, rows_of
from trainer.planning.fitting import Fitter
from trainer.planning.history import learned_memory
from trainer.planning.host import HostPlan, plan_host
from trainer.planning.inputs import PlanInputs
from trainer.planning.recipe import (
    SMOKE_IMAGES,
    Recipe,
    Tier,
    frozen_layers_of,
    stages_of,
    tier_of,
)
from trainer.planning.refusal import refusal
from trainer.planning.ways import Survey, Way, all_ways
from trainer.planning.words import duration
from trainer.vram.cards import RESERVE

TIER_HOURS: dict[Tier, float] = {"smoke": 2.0, "fine-tune": 6.0, "full": 24.0}
"""How long a run may take where nobody says so."""
_TIER_DEVICES: dict[Tier, int] = {"smoke": 1, "fine-tune": 64, "full": 64}
_COMPILE_PAYS_SECONDS = 1800.0
"""Compiling takes minutes; a shorter training does not earn them back."""


def make_plan(inputs: PlanInputs) -> TrainPlan:
    """Return the plan; the same inputs always give the same one.

    The effective batch (batch x accumulation) is the recipe's in every stage, or the number of training
    images where there are fewer.

    Raises:
        NoOfferFits: no offer has the memory, time or price; says by how much, and the nearest plan.
        RecipeRefused: the recipe contradicts itself.
        TrainerError: there is nothing to train on, or nothing is offered.
    """
    # (1)
    _require_anything(inputs)
    tier, tier_why = tier_of(inputs.recipe, inputs.data.train_images)
    reasons = [tier_why, *_about_data(inputs, tier)]
    if tier == "smoke":
        few = min(inputs.data.train_images, SMOKE_IMAGES)
        inputs = replace(inputs, data=replace(inputs.data, train_images=few))
    stages = stages_of(inputs.recipe)
    # (2)
    factor, why = learned_memory(inputs.history, inputs.network.key)
    fitter = Fitter(inputs, factor) if inputs.network.profile is not None else None
    # (3)
    survey = Survey.of(inputs, stages, fitter, _TIER_DEVICES[tier])
    # (4)
    bounds = _bounds(inputs, tier)
    choice = choose(tuple(all_ways(survey)), bounds, inputs.network.problem)
    if choice.chosen is None:
        raise refusal(inputs, choice, bounds, fitter)
    way = choice.chosen.way
    if choice.chosen.late:
        reasons.append(f"expected to take {duration(way.seconds)}, past {bounds.hours:g} h; it costs nothing")
    # (5)
    host = plan_host(inputs.recipe, inputs.data, way.offer, way.devices, stages)
    reasons += [*((why,) if why else ()), *host.reasons, *_about_way(way)]
    return _written(inputs, _Decided(tier, bounds, choice, way, host, tuple(reasons)))


@dataclass(frozen=True, slots=True)
class _Decided:
    tier: Tier
    bounds: Bounds
    choice: Choice
    way: Way
    host: HostPlan
    reasons: tuple[str, ...]


def _written(inputs: PlanInputs, decided: _Decided) -> TrainPlan:
    recipe, way, host = inputs.recipe, decided.way, decided.host
    on_card = way.offer.gpu_memory_mib > 0
    stages = tuple(
        TrainStage(
            image_size=fit.wish.image_size, epochs=fit.wish.epochs, batch=fit.batch,
            accumulation=fit.accumulation, augmentation=fit.wish.augmentation, vram=fit.vram,
        )
        for fit in way.fits
    )  # fmt: skip
    worst = max((fit.vram for fit in way.fits if fit.vram), key=lambda one: one.peak_bytes, default=None)
    return TrainPlan(
        task_id=inputs.task_id, run_id=inputs.run_id, snapshot_id=inputs.snapshot_id, start=inputs.start,
        class_list=inputs.class_list, recipe=recipe.name, stages=stages,
        accumulation=way.fits[-1].accumulation, amp=way.precision != "fp32", optimizer=recipe.optimizer,
        learning_rate=recipe.learning_rate, final_lr_share=recipe.final_lr_share,
        freeze_layers=frozen_layers_of(recipe), cache=host.cache, workers=host.workers, threads=host.threads,
        seed=recipe.seed, vram=worst, offer=way.offer, price_cap=inputs.limits.dollars_per_hour or 0.0,
        deadline=inputs.now + timedelta(hours=decided.bounds.hours), tier=decided.tier, devices=way.devices,
        compile=on_card and _compiles(recipe, way), deterministic=recipe.deterministic,
        validate_every=recipe.validate_every, checkpoint_minutes=recipe.checkpoint_minutes,
        memory_policy=recipe.memory, watch=recipe.watch, precisions=recipe.precisions,
        format_seconds=recipe.format_seconds,
        predicted=_prediction(way), considered=rows_of(decided.choice),
        spot=way.price.spot, most_images=SMOKE_IMAGES if decided.tier == "smoke" else 0,
        reasons=decided.reasons,
    )  # fmt: skip


def _prediction(way: Way) -> Prediction | None:
    if way.seconds <= 0:
        return None
    vram = [fit.vram for fit in way.fits]
    return Prediction(
        seconds=round(way.seconds, 1), train_seconds=round(way.train_seconds, 1),
        images_per_second=round(way.rate, 3), cost=None if way.cost is None else round(way.cost, 4),
        basis="measured" if way.basis == "measured" else "modelled",
        vram_confirmed=all(one is not None and one.confirmed for one in vram),
    )  # fmt: skip


def _compiles(recipe: Recipe, way: Way) -> bool:
    if recipe.compile != "auto":
        return recipe.compile == "on"
    return way.precision == "bf16" and way.train_seconds >= _COMPILE_PAYS_SECONDS


def _bounds(inputs: PlanInputs, tier: Tier) -> Bounds:
    limits = inputs.limits
    hours = TIER_HOURS[tier] if limits.hours is None else limits.hours
    return Bounds(hours, limits.hours is not None, limits.dollars, limits.dollars_per_hour)


def _require_anything(inputs: PlanInputs) -> None:
    where = f"snapshot {inputs.snapshot_id}"
    if inputs.data.train_images < 1:
        raise TrainerError(expected="at least one training image", got="0", where=where)
    if not inputs.offers:
        raise TrainerError(expected="a machine on offer", got="none", where=inputs.run_id)


def _about_data(inputs: PlanInputs, tier: Tier) -> list[str]:
    told = []
    images = inputs.data.train_images
    if tier == "smoke" and images > SMOKE_IMAGES:
        told.append(f"a smoke test takes {SMOKE_IMAGES} of {images} images")
        images = SMOKE_IMAGES
    if images < inputs.recipe.batch:
        told.append(f"effective batch {images} instead of {inputs.recipe.batch}: there are no more images")
    return told


def _about_way(way: Way) -> list[str]:
    told = []
    if any(fit.vram is not None and not fit.vram.confirmed for fit in way.fits):
        told.append(f"memory not confirmed on a GPU: {RESERVE:.0%} of the card stay free")
    if way.basis == "modelled":
        told.append("speed modelled, not measured: it may be off by a factor of two")
    elif way.basis == "guessed":
        told.append("speed guessed from the size of the weights: it may be off by a factor of three")
    elif not way.basis:
        told.append(f"speed unknown: no run on {way.offer.gpu} yet")
    return told
