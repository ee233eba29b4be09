"""Hold what is known of machines to its sources: cards by name, modelled speed, and the host around them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.trainer.planning.kit import CPU, T4, inputs, offer
from trainer.planning import Recipe, SnapshotSize, make_plan
from trainer.planning.cards import card_of, cards_with, usable_mib
from trainer.planning.recipe import split_epochs
from trainer.planning.throughput import Setup, card_rate, cpu_rate


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("T4", "T4"),
        ("Tesla T4", "T4"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA A100 80GB PCIe", "A100"),
        ("A10G", "A10G"),
        ("NVIDIA GeForce RTX 4090", "RTX4090"),
        ("RTX4090", "RTX4090"),
        ("NVIDIA RTX A6000", "RTXA6000"),
        ("A6000", "RTXA6000"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX6000Ada"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H200", "H200"),
        ("Tesla V100-SXM2-16GB", "V100"),
        ("Radeon RX 7900", None),
        ("", None),
    ],
)
def test_cards_go_by_the_names_sellers_and_drivers_give_them(name: str, known: str | None) -> None:
    """The driver's name and the catalogue's are one card; a name nobody entered is unknown, not guessed."""
    card = card_of(name)
    assert (card.name if card else None) == known


def test_the_memory_planned_with_is_what_the_card_has() -> None:
    """What a seller rounds up is not planned with; an unknown card is taken at its word."""
    assert usable_mib("T4", 16_384) == 15_360
    assert usable_mib("A100", 81_920) == 81_920
    assert usable_mib("A100", 40_000) == 40_000
    assert usable_mib("Abacus", 99_000) == 99_000
    assert cards_with(20_000)[0].name == "A10G"
    assert cards_with(10**9) == ()


@pytest.mark.parametrize(
    ("flops", "days"), [(4.5e9, 1), (16.5e9, 2), (49.0e9, 4), (109.1e9, 6), (205.7e9, 8)], ids=list("nsmlx")
)
def test_the_model_meets_the_published_times(flops: float, days: int) -> None:
    """YOLOv5 n to x on a V100: 300 epochs of COCO at 640 px took so many days, rounded to days."""
    card = card_of("V100")
    assert card is not None
    setup = Setup(640, 64, precision="fp16", mosaic=True, cores=64)
    modelled = 300 * 118_287 / card_rate(card, flops / 640**2, setup) / 86_400
    assert modelled == pytest.approx(days, rel=0.2)


def test_a_processor_is_as_slow_as_it_was_measured() -> None:
    """yolo11n at 320 px makes 6 to 10 images a second on two cores."""
    assert 6 <= cpu_rate(15_400.0, Setup(320, 16, cores=2)) <= 10


@pytest.mark.parametrize(
    ("slower", "faster"),
    [
        (("T4", Setup(640, 16, precision="fp16")), ("A100", Setup(640, 16, precision="bf16"))),
        (("T4", Setup(640, 16)), ("T4", Setup(640, 16, precision="fp16"))),
        (("T4", Setup(640, 16, precision="fp16")), ("T4", Setup(320, 16, precision="fp16"))),
        (("T4", Setup(640, 2, precision="fp16")), ("T4", Setup(640, 32, precision="fp16"))),
        (("T4", Setup(640, 16, precision="fp16")), ("T4", Setup(640, 16, 2, "fp16"))),
        (("H100", Setup(640, 64, cores=2)), ("H100", Setup(640, 64, cores=32))),
        (("T4", Setup(640, 16)), ("T4", Setup(640, 16, frozen_layers=10))),
    ],
    ids=["card", "precision", "size", "batch", "devices", "cores", "frozen"],
)
def test_the_modelled_speed_grows_with_what_makes_it_faster(
    slower: tuple[str, Setup], faster: tuple[str, Setup]
) -> None:
    """Cards, precision, smaller images, larger batches, more devices, more cores, frozen layers."""
    rates = [card_rate(card_of(name), 15_400.0, setup) for name, setup in (slower, faster)]  # type: ignore[arg-type]
    assert rates[0] < rates[1]


@pytest.mark.parametrize(
    ("host", "images", "wanted", "cache"),
    [
        ({"memory_mib": 64_000}, 10_000, "ram", "ram"),
        ({"memory_mib": 16_000}, 10_000, "ram", "disk"),
        ({"memory_mib": 16_000, "disk_mib": 20_000}, 10_000, "ram", "none"),
        ({"memory_mib": 16_000, "disk_mib": 200_000}, 10_000, "ram", "disk"),
        ({}, 1_000, "ram", "ram"),
        ({}, 10_000, "ram", "disk"),
        ({}, 20_000, "ram", "none"),
        ({"memory_mib": 64_000}, 10_000, "none", "none"),
        ({"memory_mib": 64_000}, 10_000, "disk", "disk"),
    ],
)
def test_the_cache_is_what_the_host_holds(host: dict[str, int], images: int, wanted: str, cache: str) -> None:
    """Memory where the decoded images fit, else disk, else nothing; never more than the recipe wants."""
    recipe = Recipe(image_size=640, batch=64, cache=wanted)  # type: ignore[arg-type]
    data = SnapshotSize(images, pixels=1280 * 960.0)
    plan = make_plan(inputs(T4.model_copy(update=host), recipe=recipe, data=data))
    assert plan.cache == cache
    if cache != wanted:
        assert any("cache" in reason for reason in plan.reasons)


def test_every_device_keeps_its_own_cache() -> None:
    """What one process holds in memory, eight hold eight times."""
    data = SnapshotSize(10_000, pixels=1280 * 960.0)
    alone = offer("H100", 81_559).model_copy(update={"memory_mib": 64_000})
    eight = alone.model_copy(update={"gpu_count": 8})
    assert make_plan(inputs(alone, data=data)).cache == "ram"
    assert make_plan(inputs(eight, data=data)).cache == "disk"


@pytest.mark.parametrize(
    ("cores", "memory", "workers", "threads"),
    [
        (0, 15_360, 4, 0),
        (2, 15_360, 1, 0),
        (8, 15_360, 7, 0),
        (96, 15_360, 8, 0),
        (2, 0, 0, 0),
        (16, 0, 2, 14),
    ],
)
def test_workers_and_threads_share_the_cores(cores: int, memory: int, workers: int, threads: int) -> None:
    """A card gets workers for its cores, few or many; a small processor keeps every core for the network."""
    plan = make_plan(inputs(offer("T4" if memory else "cpu", memory, cpu_count=cores)))
    assert (plan.workers, plan.threads) == (workers, threads)


def test_a_person_who_says_workers_and_threads_gets_them() -> None:
    """The planner fills in only what nobody said."""
    plan = make_plan(inputs(CPU, recipe=replace(Recipe(), workers=3, threads=2)))
    assert (plan.workers, plan.threads) == (3, 2)


@pytest.mark.parametrize("epochs", range(1, 30))
def test_stages_share_all_epochs(epochs: int) -> None:
    """No epoch is lost or invented, and with too few the last stages keep theirs."""
    shares = split_epochs(epochs, (0.4, 0.3, 0.3))
    assert sum(shares) == epochs
    assert min(shares) >= 0
    assert shares[-1] >= 1
