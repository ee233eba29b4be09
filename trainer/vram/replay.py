"""Play a step's births and deaths through the allocator's model and see when memory is highest; pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from trainer.vram.allocator import CachingAllocator, Slot, rounded
from trainer.vram.persistent import optimizer_temporaries, persistent_blocks
from trainer.vram.profile import TERMS, ModelProfile, Timeline, evaluated
from trainer.vram.shape import TrainingShape
from trainer.vram.symbols import symbols_of

_MOST_STEPS = 3
"""The first step gets the optimizer's states; after the second hardly anything new is reserved."""
_GRADIENTS, _OPTIMIZER, _WORKSPACE = (TERMS.index(name) for name in ("gradients", "optimizer", "workspace"))


@dataclass(slots=True)
class Replay:
    """Hold what a replay found; bytes.

    `at_peak` are live bytes by term when most were allocated, `moment` when that was. `curve` holds
    (moment, live bytes by term) after every birth and death of the last step, where it was asked for.
    """

    peak_allocated: int = 0
    peak_reserved: int = 0
    moment: str = ""
    at_peak: list[int] = field(default_factory=lambda: [0] * len(TERMS))
    curve: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Action:
    """Hold a birth or a death; sorted, births come first within one operation."""

    at: int
    death: bool
    block: int
    size: int
    term: int


def replay(
    profile: ModelProfile, shape: TrainingShape, *, workspace: float = 1.0, keep_curve: bool = False
) -> Replay:
    """Return the peaks of some steps, and of a validation pass where the shape has one.

    Args:
        profile: the network.
        shape: the step.
        workspace: factor on what kernels are thought to take for themselves.
        keep_curve: whether to keep the memory over the last step, for a picture.
    """
    player = _Player(profile, shape, workspace)
    for number in range(_MOST_STEPS):
        before = player.allocator.reserved
        player.curve = [] if keep_curve else None
        player.step(first=number == 0)
        if number and player.allocator.reserved == before:
            break
    curve, player.curve = player.curve, None
    if shape.validate and "validation" in profile.timelines:
        player.play(profile.timelines["validation"], "validation")
    return Replay(
        peak_allocated=player.allocator.peak_allocated, peak_reserved=player.allocator.peak_reserved,
        moment=player.highest_moment, at_peak=player.at_peak, curve=curve or [],
    )  # fmt: skip


class _Player:
    def __init__(self, profile: ModelProfile, shape: TrainingShape, workspace: float) -> None:
        self.profile, self.shape, self.workspace = profile, shape, workspace
        self.symbols = symbols_of(profile, shape)
        self.allocator = CachingAllocator(expandable=shape.expandable_segments)
        self.live = [0] * len(TERMS)
        self.at_peak = list(self.live)
        self.moment = self.highest_moment = "start"
        self.curve: list[tuple[str, tuple[int, ...]]] | None = None
        self._highest = 0
        self._timeline = profile.timelines["mixed" if shape.amp else "fp32"]
        self._actions = self._ordered(self._timeline)
        self._held = persistent_blocks(profile, shape)
        for term, size in self._held.from_start:
            self._birth(size, term)

    def step(self, *, first: bool) -> None:
        """Play one training step; the first one leaves the optimizer's states behind."""
        marks = sorted((at, name) for name, at in self._timeline.marks)
        slots: dict[int, Slot] = {}
        for action in self._actions:
            while marks and marks[0][0] <= action.at:
                self.moment = marks.pop(0)[1]
                if self.moment == "optimizer":
                    self._optimizer(first=first)
            self._act(action, slots)
        if any(name == "optimizer" for _at, name in marks):
            self.moment = "optimizer"
            self._optimizer(first=first)
        self._end(self._timeline, slots)

    def play(self, timeline: Timeline, moment: str) -> None:
        """Play a stretch of its own; whatever is left at its end is freed."""
        self.moment = moment
        slots: dict[int, Slot] = {}
        for action in self._ordered(timeline):
            self._act(action, slots)
        self._end(timeline, slots)

    def _optimizer(self, *, first: bool) -> None:
        if first:
            for term, size in self._held.from_first_step:
                self._birth(size, term)
        timeline = self.profile.optimizers.get(self.shape.optimizer)
        if timeline is not None:
            self.play(timeline, "optimizer")
            return
        sizes = optimizer_temporaries(self.profile, self.shape)
        taken = [(self._birth(size, _OPTIMIZER), size) for size in sizes]
        for slot, size in taken:
            self._death(slot, _OPTIMIZER, size)

    def _ordered(self, timeline: Timeline) -> list[Action]:
        """Return births and deaths in order.

        Where gradients are kept over several batches, each new one is added to the old and goes at once.
        """
        sizes = [evaluated(polynomial, self.symbols) for polynomial in timeline.polynomials]
        keep = self.shape.accumulation > 1
        actions: list[Action] = []
        for number, (born, died, polynomial, term) in enumerate(timeline.blocks):
            size = sizes[polynomial] if term != _WORKSPACE else round(sizes[polynomial] * self.workspace)
            if not size:
                continue
            end = min(died, born + 1) if keep and term == _GRADIENTS else died
            actions.append(Action(born, False, number, size, term))
            if end < timeline.length:
                actions.append(Action(end, True, number, size, term))
        actions.sort(key=lambda action: (action.at, action.death))
        return actions

    def _act(self, action: Action, slots: dict[int, Slot]) -> None:
        if action.death:
            self._death(slots.pop(action.block), action.term, action.size)
        else:
            slots[action.block] = self._birth(action.size, action.term)

    def _end(self, timeline: Timeline, slots: dict[int, Slot]) -> None:
        for number, slot in slots.items():
            _born, _died, polynomial, term = timeline.blocks[number]
            self._death(slot, term, evaluated(timeline.polynomials[polynomial], self.symbols))

    def _birth(self, size: int, term: int) -> Slot:
        slot = self.allocator.take(size)
        self.live[term] += rounded(size)
        if self.allocator.allocated > self._highest:
            self._highest = self.allocator.allocated
            self.at_peak = list(self.live)
            self.highest_moment = self.moment
        if self.curve is not None:
            self.curve.append((self.moment, tuple(self.live)))
        return slot

    def _death(self, slot: Slot, term: int, size: int) -> None:
        self.allocator.give_back(slot)
        self.live[term] -= rounded(size)
        if self.curve is not None:
            self.curve.append((self.moment, tuple(self.live)))
