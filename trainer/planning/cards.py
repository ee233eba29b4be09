"""Know cards by name: computing rates, memory bandwidth and the memory a run finds on them; pure.

    >>> card_of("NVIDIA A100-SXM4-80GB").name, card_of("Tesla T4").memory_mib, card_of("Abacus 9")
    ('A100', (15360,), None)

Rates are dense, without sparsity; those of tensor cores with fp32 accumulation, which is what torch uses.
Where a name covers several boards the slowest stands here. Compared with public specification tables, which
agree within 4 %: T4, A10, A40, A100, L4, L40, L40S, RTX 3090, 4080, 4090 and 5090, RTX A4000 and A6000; of
the V100, H100 and H200 all but the tensor rate. Not checked: P100, RTX 2080 Ti, 3060 and 3080, RTX A5000,
RTX 6000 Ada, A10G, A30, those tensor rates, and of every card the memory, which is meant to be what
`nvidia-smi` reports and is less than the name says: a "16 GB" T4 has 15 GiB.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Card:
    """Describe a card: TFLOPS in fp32 and on fp16 tensor cores, GB/s, MiB of each variant.

    `bf16` tells cards from Ampere on: they compute in bf16, and in tf32 at half the tensor rate.
    """

    name: str
    fp32: float
    tensor: float
    bandwidth: float
    memory_mib: tuple[int, ...]
    bf16: bool = True


_CARDS = (
    Card("P100", 9.3, 18.7, 732, (16_384,), bf16=False),
    Card("V100", 14.0, 112.0, 900, (16_384, 32_768), bf16=False),
    Card("T4", 8.1, 65.0, 320, (15_360,), bf16=False),
    Card("RTX2080Ti", 13.4, 53.8, 616, (11_264,), bf16=False),
    Card("RTX3060", 12.7, 25.6, 360, (12_288,)),
    Card("RTX3080", 29.8, 59.5, 760, (10_240,)),
    Card("RTX3090", 35.6, 71.0, 936, (24_576,)),
    Card("RTX4080", 48.7, 97.5, 717, (16_376,)),
    Card("RTX4090", 82.6, 165.2, 1_008, (24_564,)),
    Card("RTX5090", 104.8, 209.5, 1_792, (32_607,)),
    Card("RTXA4000", 19.2, 76.7, 448, (16_376,)),
    Card("RTXA5000", 27.8, 111.1, 768, (24_564,)),
    Card("RTXA6000", 38.7, 154.8, 768, (49_140,)),
    Card("RTX6000Ada", 91.1, 364.2, 960, (49_140,)),
    Card("A10", 31.2, 125.0, 600, (23_028,)),
    Card("A10G", 31.2, 70.0, 600, (23_028,)),
    Card("A30", 10.3, 165.0, 933, (24_576,)),
    Card("A40", 37.4, 149.7, 696, (46_068,)),
    Card("A100", 19.5, 312.0, 1_555, (40_960, 81_920)),
    Card("L4", 30.3, 121.0, 300, (23_034,)),
    Card("L40", 90.5, 181.0, 864, (46_068,)),
    Card("L40S", 91.6, 362.0, 864, (46_068,)),
    Card("H100", 51.0, 756.0, 2_000, (81_559,)),
    Card("H200", 67.0, 989.0, 4_800, (143_771,)),
)
_BY_NAME = {card.name.lower(): card for card in _CARDS}
_ALIASES = {"a4000": "rtxa4000", "a5000": "rtxa5000", "a6000": "rtxa6000", "6000ada": "rtx6000ada"}
_NOISE = re.compile(r"nvidia|geforce|tesla|generation|sxm\d*|pcie|nvl|hbm\d*e?|(?<!\d)\d{1,3}gi?b")
_BEFORE_TURING = {"P100": "6.0", "V100": "7.0"}
_LIES = 1.08
"""How much more than its memory a seller may state for a card: decimal and rounded gigabytes."""


def card_of(name: str) -> Card | None:
    """Return what is known of a card, None for a name nobody entered here."""
    text = _NOISE.sub(" ", name.lower().replace("_", " ").replace("-", " "))
    short = re.sub(r"[^a-z0-9]", "", text)
    return _BY_NAME.get(_ALIASES.get(short, short))


def usable_mib(name: str, stated_mib: int) -> int:
    """Return the memory to plan with: what the offer states, at most what the card is known to have."""
    card = card_of(name)
    if card is None:
        return stated_mib
    meant = [size for size in card.memory_mib if size <= stated_mib * _LIES]
    return min(stated_mib, max(meant, default=stated_mib))


def too_old(name: str) -> str:
    """Return why the trainer's image cannot use a card, "" where it can or nobody knows.

    Its torch is built for CUDA 13, which needs compute capability 7.5 (NVIDIA's CUDA 13.0 release notes).
    """
    card = card_of(name)
    has = _BEFORE_TURING.get(card.name) if card else None
    return f"compute capability {has}, and the trainer's image needs 7.5" if has else ""


def cards_with(mib: float) -> tuple[Card, ...]:
    """Return the known cards that have this much memory, those with the least first."""
    large = [(min(size for size in card.memory_mib if size >= mib), card.tensor, card.name, card)
             for card in _CARDS if max(card.memory_mib) >= mib]  # fmt: skip
    return tuple(card for *_, card in sorted(large, key=lambda one: one[:3]))
