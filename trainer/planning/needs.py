"""Say what a recipe would need of a GPU, whatever is on offer; pure."""

from __future__ import annotations

from dataclasses import dataclass

from fleet_contracts.training import VramEstimate
from trainer.planning.cards import cards_with
from trainer.planning.fitting import DeviceShare, Fitter, card_needed_mib, divisors, effective_batch
from trainer.planning.history import learned_memory
from trainer.planning.inputs import PlanInputs
from trainer.planning.recipe import StageWish, stages_of

_MOST_CARDS = 3
_ENDLESS_MIB = 2**31


@dataclass(frozen=True, slots=True)
class Need:
    """Say what a stage takes at one batch, and the smallest known cards that have it with reserve."""

    stage: int
    wish: StageWish
    batch: int
    accumulation: int
    precision: str
    estimate: VramEstimate
    card_mib: int
    cards: tuple[str, ...]


def gpu_needs(inputs: PlanInputs) -> tuple[Need, ...]:
    """Return the needs of every stage on one card: the whole batch, a part of it, and one image a step.

    Empty where the network was not traced.
    """
    if inputs.network.profile is None:
        return ()
    factor, _ = learned_memory(inputs.history, inputs.network.key)
    fitter = Fitter(inputs, factor)
    precision = "fp16" if inputs.recipe.amp else "fp32"
    batches = divisors(effective_batch(inputs))
    shown = sorted({batches[-1], batches[len(batches) // 2], batches[0]}, reverse=True)
    return tuple(
        _need(fitter, (number, wish), batch, (precision, effective_batch(inputs)))
        for number, wish in enumerate(stages_of(inputs.recipe))
        for batch in shown
    )


def _need(fitter: Fitter, stage: tuple[int, StageWish], batch: int, how: tuple[str, int]) -> Need:
    precision, effective = how
    estimate = fitter.estimate(stage[1], batch, DeviceShare(1, _ENDLESS_MIB, precision))
    needed = card_needed_mib(estimate)
    cards = tuple(card.name for card in cards_with(needed)[:_MOST_CARDS])
    return Need(*stage, batch, effective // batch, precision, estimate, needed, cards)
