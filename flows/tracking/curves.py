"""Choose what is drawn of a run: pure. Each field of the picture with its curves, over the run's epochs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from fleet_contracts.training import EpochMetrics
from flows.tracking.story import Story, estimate_of

_GIB = 2.0**30
Style = Literal["measured", "level", "aside"]


@dataclass(frozen=True, slots=True)
class Curve:
    """Hold one curve: values over epochs. A level was predicted, not measured; an aside goes with another."""

    name: str
    epochs: tuple[int, ...]
    values: tuple[float, ...]
    style: Style = "measured"


def fields_of(story: Story, *, alone: bool) -> dict[str, list[Curve]]:
    """Return the fields of the picture in their order; one without curves was not measured.

    Args:
        story: the run; one without a record has no curves.
        alone: whether it is the only one drawn; then each loss is a curve, else their sum.
    """
    epochs = story.record.epochs if story.record else ()
    name = story.run_id[:12]
    busy = _curve(f"{name} busy", epochs, lambda one: one.utilisation)
    waits = _curve(f"{name} waits for data", epochs, lambda one: one.data_wait_share, "aside") if busy else []
    return {
        "training loss": _losses(name, epochs, lambda one: one.losses, alone=alone),
        "validation loss": _losses(name, epochs, lambda one: one.val, alone=alone),
        "learning rate": _curve(name, epochs, lambda one: one.learning_rate),
        "images/s": _curve(name, epochs, lambda one: one.images_per_second),
        "GPU memory, GiB": [
            *_curve(f"{name} seen", epochs, lambda one: one.peak_memory_bytes / _GIB or None),
            *_predicted(story, epochs),
        ],
        "share of time": [*busy, *waits],
    }


def _predicted(story: Story, epochs: Sequence[EpochMetrics]) -> list[Curve]:
    estimate = estimate_of(story)
    if estimate is None or not estimate.peak_bytes or not epochs:
        return []
    word = "predicted" if estimate.confirmed else "predicted, not confirmed"
    ends = (epochs[0].epoch, epochs[-1].epoch)
    return [Curve(f"{story.run_id[:12]} {word}", ends, (estimate.peak_bytes / _GIB,) * 2, "level")]


def _losses(
    name: str,
    epochs: Sequence[EpochMetrics],
    pick: Callable[[EpochMetrics], dict[str, float]],
    *,
    alone: bool,
) -> list[Curve]:
    if not alone:
        return _curve(name, epochs, lambda one: sum(pick(one).values()) if pick(one) else None)
    names = dict.fromkeys(loss for one in epochs for loss in pick(one))
    return [curve for loss in names for curve in _curve(loss, epochs, lambda one, of=loss: pick(one).get(of))]  # type: ignore[misc]  # bound now


def _curve(
    name: str,
    epochs: Sequence[EpochMetrics],
    pick: Callable[[EpochMetrics], float | None],
    style: Style = "measured",
) -> list[Curve]:
    rows = [(one.epoch, value) for one in epochs if (value := pick(one)) is not None]
    values = tuple(value for _, value in rows)
    return [Curve(name, tuple(at for at, _ in rows), values, style)] if rows else []
