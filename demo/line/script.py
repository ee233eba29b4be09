"""Decide what comes down the line: which defects, in which look, from which part on.

The line stands at a rework station: electrical test sends it the suspicious boards, so most parts
carry a defect. `KNOWN` is production as the first champion learnt it; `CHANGED` is what the line
sees after the new cutter and the new flux arrived.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from demo.line.defects import KNOWN_KINDS, NEW_KIND, add_defect
from demo.line.parts import fresh_part
from demo.line.render import Picture, render

FIRST_CLASSES = KNOWN_KINDS
"""Class list 1: what the first champion knows."""
ALL_CLASSES = (*KNOWN_KINDS, NEW_KIND)
"""Class list 2, after the operator added a class."""


@dataclass(frozen=True, slots=True)
class Mix:
    """Say how often each kind comes, and in which look; shares of parts, rest are faultless.

    `second` is the chance that a defective part carries a second defect.
    """

    name: str
    shares: tuple[tuple[str, str, float], ...]
    second: float = 0.25


KNOWN = Mix("known", (("scratch", "dull", 0.32), ("missing", "", 0.28), ("misplaced", "", 0.28)))
CHANGED = Mix(
    "changed",
    (("missing", "", 0.29), ("misplaced", "", 0.27), ("scratch", "bright", 0.20), (NEW_KIND, "", 0.15)),
    second=0.15,
)
NOVEL = Mix("novel", (("scratch", "bright", 0.5), (NEW_KIND, "", 0.5)), second=0.3)
"""Only what changed and what is new: the mix on which recall before and after is measured."""
MIXES = {mix.name: mix for mix in (KNOWN, CHANGED, NOVEL)}


def draw_part(mix: Mix, seed: int, number: int) -> Picture:
    """Draw part `number` of a line started with `seed`; the same three give the same picture."""
    rng = np.random.default_rng([seed, number])
    part = fresh_part(rng)
    rounds = 1 + int(rng.random() < mix.second)
    if rng.random() > sum(share for _, _, share in mix.shares):
        rounds = 0
    weights = np.array([share for _, _, share in mix.shares])
    for _ in range(rounds):
        kind, look, _ = mix.shares[int(rng.choice(len(mix.shares), p=weights / weights.sum()))]
        part = add_defect(part, kind, look, rng)
    return render(part)
