"""Work out every way to train a recipe: offer, devices, number format, price; pure.

A way holds the batch and memory of every stage, how fast it is, what it takes and costs. Whether it may be
taken is decided in `choosing`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from fleet_contracts.training import GpuOffer
from trainer.planning.cards import card_of
from trainer.planning.fitting import (
    DeviceShare,
    Fitter,
    StageFit,
    TooLarge,
    device_counts,
    effective_batch,
    share_of,
)
from trainer.planning.history import (
    Measured,
    learned_overhead,
    learned_rate,
    machine_of,
    measured_stages,
)
from trainer.planning.inputs import PlanInputs
from trainer.planning.recipe import StageWish, frozen_layers_of
from trainer.planning.throughput import Basis, Setup, card_rate, cpu_rate, work_per_pixel

COLD_START_SECONDS = 240.0
"""A rented machine until the trainer runs: boot, image, checks. An assumption until runs have measured it."""
LOCAL_START_SECONDS = 20.0
"""Starting the trainer here, putting the data on disk, exporting and comparing at the end."""
COPY_BYTES_PER_SECOND = 25e6
"""The data's way from the bucket to a rented machine: 200 Mbit/s. An assumption."""
PREEMPTION_HOURS = 4.0
"""Mean time until a spot machine is taken away, which costs a cold start and half an epoch. An assumption."""


@dataclass(frozen=True, slots=True)
class Price:
    """Hold dollars per hour, None when unknown, and whether it is the spot price."""

    dollars: float | None
    spot: bool = False


@dataclass(frozen=True, slots=True)
class Way:
    """Hold one way to train; a rate or time of 0 is unknown, a cost of None too.

    `lacking` says what is too large for its devices, where something is; without any `fits` nobody knows.
    """

    offer: GpuOffer
    devices: int
    precision: str
    price: Price
    fits: tuple[StageFit, ...] = ()
    lacking: TooLarge | None = None
    rates: tuple[float, ...] = ()
    basis: Basis = ""
    train_seconds: float = 0.0
    seconds: float = 0.0

    @property
    def cost(self) -> float | None:
        """Return dollars for the whole run; a machine without a price is unknown, never free."""
        if self.price.dollars == 0.0:
            return 0.0
        if self.price.dollars is None or self.seconds <= 0:
            return None
        return self.price.dollars * self.seconds / 3600

    @property
    def rate(self) -> float:
        """Return images per second over all epochs, 0 if unknown."""
        return self.rates[-1] if len(set(self.rates)) == 1 else _mean_rate(self)

    @property
    def peak_bytes(self) -> int:
        """Return the largest estimate of any stage, or what the smallest batch would need."""
        if self.lacking is not None:
            return self.lacking.needed
        return max((fit.vram.peak_bytes for fit in self.fits if fit.vram is not None), default=0)


@dataclass(frozen=True, slots=True)
class Survey:
    """Hold what working out ways needs, made once for a plan."""

    inputs: PlanInputs
    stages: tuple[StageWish, ...]
    fitter: Fitter | None
    most_devices: int = 64
    known: tuple[Measured, ...] = ()
    overheads: dict[str, float | None] = field(default_factory=dict)

    @classmethod
    def of(
        cls, inputs: PlanInputs, stages: tuple[StageWish, ...], fitter: Fitter | None, most_devices: int
    ) -> Survey:
        """Return a survey with what finished runs measured."""
        lenders = {offer.provider for offer in inputs.offers}
        overheads = {name: learned_overhead(inputs.history, name) for name in sorted(lenders)}
        return cls(inputs, stages, fitter, most_devices, measured_stages(inputs.history), overheads)


def all_ways(survey: Survey) -> Iterator[Way]:
    """Work out every way over all offers, in an order that depends on the inputs alone."""
    for offer in sorted(survey.inputs.offers, key=lambda one: (one.provider, one.offer_id, one.gpu)):
        if offer.gpu_memory_mib == 0:
            yield from (_cpu_way(survey, offer, price) for price in _prices(survey, offer))
            continue
        if survey.fitter is None:
            yield from (Way(offer, 1, "", price) for price in _prices(survey, offer))
            continue
        for devices in device_counts(survey.inputs, min(max(offer.gpu_count, 1), survey.most_devices)):
            for precision in _formats(survey, offer):
                yield from _card_ways(survey, survey.fitter, offer, share_of(
                    offer.gpu, offer.gpu_memory_mib, devices, precision))  # fmt: skip


def _prices(survey: Survey, offer: GpuOffer) -> list[Price]:
    prices = [Price(offer.on_demand_price)]
    # Sellers' lists say 0.00 where they do not know.
    if survey.inputs.limits.spot and offer.spot_price:
        prices.append(Price(offer.spot_price, spot=True))
    return prices


def _formats(survey: Survey, offer: GpuOffer) -> tuple[str, ...]:
    if not survey.inputs.recipe.amp:
        return ("fp32",)
    card = card_of(offer.gpu)
    return ("bf16" if card is not None and card.bf16 else "fp16", "fp32")


def _cpu_way(survey: Survey, offer: GpuOffer, price: Price) -> Way:
    batch = effective_batch(survey.inputs)
    fits = tuple(StageFit(wish, batch, 1) for wish in survey.stages)
    return _timed(survey, Way(offer, 1, "fp32", price, fits))


def _card_ways(survey: Survey, fitter: Fitter, offer: GpuOffer, share: DeviceShare) -> Iterator[Way]:
    found = [fitter.fit(wish, share) for wish in survey.stages]
    lacking = max(
        (one for one in found if isinstance(one, TooLarge)), key=lambda one: one.needed, default=None
    )
    fits = tuple(one for one in found if isinstance(one, StageFit))
    for price in _prices(survey, offer):
        way = Way(offer, share.devices, share.precision, price, fits, lacking)
        yield way if lacking is not None else _timed(survey, way)


def _timed(survey: Survey, way: Way) -> Way:
    """Return a way with its rates and times; they stay unknown where nothing says how fast the machine is."""
    found = [_rate(survey, way, fit) for fit in way.fits]
    rates, bases = [rate for rate, _ in found], {basis for _, basis in found}
    if min(rates, default=0.0) <= 0:
        return way
    train = sum(_epoch_seconds(survey.inputs, rate) * fit.wish.epochs
                for fit, rate in zip(way.fits, rates, strict=True))  # fmt: skip
    seconds = train + _around(survey, way)
    if way.price.spot:
        epochs = sum(fit.wish.epochs for fit in way.fits)
        seconds += seconds / 3600 / PREEMPTION_HOURS * (COLD_START_SECONDS + train / epochs / 2)
    basis: Basis = next(name for name in ("guessed", "modelled", "measured") if name in bases)
    return Way(way.offer, way.devices, way.precision, way.price, way.fits, None, tuple(rates), basis, train,
               seconds)  # fmt: skip


def _rate(survey: Survey, way: Way, fit: StageFit) -> tuple[float, Basis]:
    """Return images per second of a stage: measured on this machine if ever, else modelled."""
    inputs = survey.inputs
    setup = Setup(
        fit.wish.image_size, max(fit.batch // way.devices, 1), way.devices, way.precision,
        fit.wish.augmentation in ("full", "heavy"), frozen_layers_of(inputs.recipe), way.offer.cpu_count,
    )  # fmt: skip
    work, basis = work_per_pixel(inputs.network.profile, inputs.network.weights_bytes)
    card = card_of(way.offer.gpu) if way.offer.gpu_memory_mib else None
    on_cpu = way.offer.gpu_memory_mib == 0

    def model(one: Setup) -> float:
        if work > 0 and (on_cpu or card is not None):
            if card is None:
                # The machine is the same, so are its cores, whether or not they were counted then.
                return cpu_rate(work, replace(one, cores=setup.cores))
            return card_rate(card, work, one)
        # Nothing is known but that twice the pixels take twice as long.
        return one.devices / one.image_size**2

    learned = learned_rate(survey.known, machine_of(way.offer), inputs.network.key, (setup, model))
    if learned is not None:
        return learned[0], "measured"
    # A processor whose cores nobody counted, or a card nobody entered, has no rate to model.
    known = work > 0 and (card is not None or (on_cpu and way.offer.cpu_count > 0))
    return (model(setup), basis) if known else (0.0, "")


def _epoch_seconds(inputs: PlanInputs, rate: float) -> float:
    """Return the seconds of an epoch; measuring the validation loss is a forward pass, a third of a step."""
    every = inputs.recipe.validate_every
    validated = inputs.data.val_images / 3 / every if every else 0.0
    return (inputs.data.train_images + validated) / rate


def _around(survey: Survey, way: Way) -> float:
    """Return the seconds of a run that no epoch takes."""
    free = way.price.dollars == 0.0
    learned = survey.overheads.get(way.offer.provider)
    copy = 0.0 if free else survey.inputs.data.size_bytes / COPY_BYTES_PER_SECOND
    if learned is not None:
        # What runs measured begins when the trainer starts, and holds the copy.
        return learned + (0.0 if free else COLD_START_SECONDS)
    return copy + (LOCAL_START_SECONDS if free else COLD_START_SECONDS)


def _mean_rate(way: Way) -> float:
    if not way.rates:
        return 0.0
    epochs = [fit.wish.epochs for fit in way.fits]
    return sum(epochs) / sum(count / rate for count, rate in zip(epochs, way.rates, strict=True))
