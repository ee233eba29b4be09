"""Judge machines that are not what was promised, one fault at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trainer.fitness.facts import CardSeen, DriverSeen, LineSeen, MachineSeen, Need, TorchBuild
from trainer.fitness.rules import judge

MIB = 2**20
GIB = 2**30
TORCH = TorchBuild("2.15.0+cu132", (13, 2))
CARD = CardSeen("Tesla T4", 15_360 * MIB, 15_000 * MIB, (7, 5))
DRIVER = DriverSeen(version="595.10", cuda=(13, 2), cards=(CARD,), usable=1)
GOOD = MachineSeen(DRIVER, TORCH, 100 * GIB, 64 * GIB, LineSeen(50e6, 0.2))
NEED = Need(
    cards=1, gpu="T4", promised_mib=15_360, peak_bytes=9 * GIB, memory_mib=65_536, disk_bytes=20 * GIB,
    data_bytes=10 * GIB, data_seconds=600.0,
)  # fmt: skip


def with_card(**changes: object) -> MachineSeen:
    """Return the good machine with another card."""
    return replace(GOOD, driver=replace(DRIVER, cards=(replace(CARD, **changes),)))  # type: ignore[arg-type]


def with_driver(**changes: object) -> MachineSeen:
    """Return the good machine with another driver."""
    return replace(GOOD, driver=replace(DRIVER, **changes))  # type: ignore[arg-type]


def test_a_machine_as_promised_is_fit() -> None:
    """Nothing is said about a good machine, nor about a plan for the processor on one without a card."""
    assert judge(GOOD, NEED) == ()
    assert judge(replace(GOOD, driver=None), replace(NEED, cards=0)) == ()


@pytest.mark.parametrize(
    ("seen", "what", "says"),
    [
        (with_driver(error="NVML Shared Library Not Found"), "driver", "NVML Shared Library Not Found"),
        (replace(GOOD, driver=None), "driver", "no NVIDIA driver answers"),
        (with_driver(cuda=(12, 8), version="570.1"), "driver", "needs driver 580.65.06 or newer"),
        (replace(GOOD, torch=TorchBuild("2.15.0+cpu")), "torch", "built for the processor alone"),
        (replace(GOOD, torch=TorchBuild()), "torch", "no torch"),
        (with_driver(cards=(), usable=0), "card", "1 x T4 promised, 0 cards here"),
        (with_driver(usable=0), "card", "CUDA can use 0"),
        (with_driver(cuda_error="cuInit: unknown error"), "card", "CUDA does not start"),
        (with_card(total_bytes=7_680 * MIB), "memory", "15360 MiB promised, Tesla T4 has 7680"),
        (with_card(free_bytes=8 * GIB), "memory", "8192 of 15360 MiB free on Tesla T4, 9216 wanted"),
        (with_card(name="Tesla P100-PCIE-16GB", total_bytes=16 * GIB), "kind", "T4 promised, Tesla P100"),
        (with_card(capability=(7, 0)), "kind", "compute capability 7.0; this torch wants 7.5"),
        (replace(GOOD, disk_free_bytes=GIB), "disk", "1024 MiB of disk free, 20480 wanted"),
        (replace(GOOD, line=LineSeen(1e6, 0.0)), "line", "10240 MiB take 179 min, 10 min are granted"),
        (replace(GOOD, line=LineSeen(50e6, -301.0)), "clock", "301 s behind the store's"),
    ],
)
def test_what_would_fail_or_cheat_is_grave(seen: MachineSeen, what: str, says: str) -> None:
    """Each fault is found, named and ends the run on this machine."""
    found = [one for one in judge(seen, NEED) if one.grave]
    assert [one.what for one in found] == [what]
    assert says in found[0].why


@pytest.mark.parametrize(
    ("seen", "what"),
    [
        (with_driver(cuda=(13, 0)), "driver"),
        (with_driver(cuda=None), "driver"),
        (with_card(name="NVIDIA A10", total_bytes=23_028 * MIB, capability=(8, 6)), "kind"),
        (with_card(name="Abacus 9"), "kind"),
        (replace(GOOD, memory_bytes=32 * GIB), "host memory"),
        (replace(GOOD, line=LineSeen(50e6, 60.0)), "clock"),
        (replace(GOOD, line=LineSeen(error="WireDown: away")), "line"),
    ],
)
def test_what_only_costs_time_is_told(seen: MachineSeen, what: str) -> None:
    """A better card, an older minor version, what nobody could tell: a word, and the run goes on."""
    found = judge(seen, NEED)
    assert [(one.what, one.grave) for one in found] == [(what, False)]


@pytest.mark.parametrize(
    ("gpu", "promised", "real"), [("RTXA6000", 49_140, 46_068), ("RTXA5000", 24_564, 23_028)]
)
def test_error_correction_is_no_lie(gpu: str, promised: int, real: int) -> None:
    """A workstation card with ECC switched on has a sixteenth less: a run that fits is not turned away."""
    need = replace(NEED, gpu=gpu, promised_mib=promised)
    name = f"NVIDIA {gpu.replace('RTX', 'RTX ')}"
    seen = with_card(name=name, total_bytes=real * MIB, free_bytes=(real - 400) * MIB, capability=(8, 6))
    assert judge(seen, need) == ()
    full = replace(need, peak_bytes=(real + 1) * MIB)
    assert [(one.what, one.grave) for one in judge(seen, full)] == [("memory", True)]


def test_every_card_of_several_counts() -> None:
    """With two cards promised, the second one's memory is looked at too, and a third one is not."""
    small = replace(CARD, total_bytes=8 * GIB)
    two = replace(DRIVER, cards=(CARD, small), usable=2)
    assert [one.what for one in judge(replace(GOOD, driver=two), replace(NEED, cards=2))] == ["memory"]
    three = replace(DRIVER, cards=(CARD, CARD, small), usable=3)
    assert judge(replace(GOOD, driver=three), replace(NEED, cards=2)) == ()


def test_sellers_gigabytes_are_tolerated() -> None:
    """24 GB of an unknown card may be 22.5 GiB; half a card is not."""
    unknown = replace(NEED, gpu="Abacus 9", promised_mib=24_000, peak_bytes=0)
    fair = with_card(name="Abacus 9", total_bytes=22_500 * MIB, free_bytes=22_000 * MIB)
    assert judge(fair, unknown) == ()
    half = with_card(name="Abacus 9", total_bytes=12_000 * MIB, free_bytes=12_000 * MIB)
    assert [one.what for one in judge(half, unknown)] == ["memory"]
