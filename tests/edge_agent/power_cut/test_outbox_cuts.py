"""Cut the power at every step of everything the outbox does; what it said is kept must be there."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from fleet_contracts.ids import sample_id_of
from tests.edge_agent.power_cut.box import CuttableOutbox, PowerWentOff
from tests.edge_agent.power_cut.driver import picture_of

NewBox = Callable[..., CuttableOutbox]
SIZE = 400


def name_of(number: int, size: int = SIZE) -> str:
    return sample_id_of(picture_of(number, size))


def look(box: CuttableOutbox) -> dict[str, Any]:
    """Say what the outbox holds, and check what must always hold."""
    seen: dict[str, Any] = box.do("look")
    counts = seen["counts"]
    left = sum(counts.get(name, 0) for name in ("receipts", "outbox_lost"))
    assert counts.get("kept.test", 0) - left == seen["waiting"] == len(seen["rows"])
    assert all(seen["whole"].values())
    assert seen["files"] == sorted(f"{name}.{kind}" for name in seen["rows"] for kind in ("jpg", "json"))
    return seen


def until_no_cut_fires(
    new_box: NewBox, prepare: Callable[[CuttableOutbox], None], deed: dict[str, Any], quota: int = 10**9
) -> list[dict[str, Any]]:
    """Do the deed in one box per step, cut there; return what each held afterwards, the last one uncut."""
    found = []
    for cut in range(1, 200):
        with new_box(quota) as box:
            box.start()
            prepare(box)
            try:
                box.do(**deed, cut=cut)
            except PowerWentOff:
                box.start()
                found.append(look(box))
                continue
            found.append(look(box))
            return found
    raise AssertionError("no end of steps")


def three(box: CuttableOutbox) -> None:
    for number in range(3):
        assert box.do("add", number=number, size=SIZE, value=0.2 + number / 10) == "kept"


def test_a_cut_while_an_example_is_kept_leaves_it_whole_or_not_at_all(new_box: NewBox) -> None:
    """The three before it are always there; the newcomer is, once all was done."""
    found = until_no_cut_fires(new_box, three, {"name": "add", "number": 9, "size": SIZE, "value": 0.9})
    before = {name_of(number) for number in range(3)}
    assert {frozenset(seen["rows"]) for seen in found} == {
        frozenset(before),
        frozenset({*before, name_of(9)}),
    }
    assert name_of(9) in found[-1]["rows"]
    assert len(found) > 8


def test_a_cut_while_a_receipt_is_settled_brings_nothing_back(new_box: NewBox) -> None:
    """An example goes with its receipt counted, or stays with it not counted: never one without the other."""
    found = until_no_cut_fires(new_box, three, {"name": "receipt", "ids": [name_of(0), name_of(1)]})
    kinds = {(len(seen["rows"]), seen["counts"].get("receipts", 0)) for seen in found}
    assert kinds == {(3, 0), (1, 2)}
    assert len(found) > 6


def test_a_cut_while_the_least_valuable_goes_counts_it_once(new_box: NewBox) -> None:
    """Three are there, or two and the loss is counted; with the newcomer or without."""
    total = _bytes_of_three(new_box)
    newcomer = {"name": "add", "number": 9, "size": SIZE, "value": 0.9}
    found = until_no_cut_fires(new_box, three, newcomer, quota=total + 50)
    kinds = {
        (name_of(0) in seen["rows"], name_of(9) in seen["rows"], seen["counts"].get("outbox_evicted", 0))
        for seen in found
    }
    assert kinds == {(True, False, 0), (False, False, 1), (False, True, 1)}
    assert all({name_of(1), name_of(2)} <= set(seen["rows"]) for seen in found)
    assert found[-1]["counts"]["outbox_lost_value_milli"] == 200


def _bytes_of_three(new_box: NewBox) -> int:
    with new_box() as box:
        box.start()
        three(box)
        return int(look(box)["bytes"])


@pytest.mark.parametrize("name", ["grant", "sent"])
def test_a_cut_while_states_change_loses_no_row(new_box: NewBox, name: str) -> None:
    """States are hints: a row may have the old one or the new one, and is there."""
    found = until_no_cut_fires(new_box, three, {"name": name, "ids": [name_of(0), name_of(1)]})
    assert all(len(seen["rows"]) == 3 for seen in found)


def test_a_cut_while_progress_is_stored_keeps_frames_and_counts_together(new_box: NewBox) -> None:
    """Either all tokens and their counts or none."""
    found = until_no_cut_fires(new_box, three, {"name": "progress", "tokens": ["1.jpg", "2.jpg"]})
    kinds = {(len(seen["progress"]), seen["counts"].get("frames_inspected", 0)) for seen in found}
    assert kinds == {(0, 0), (2, 2)}


def test_a_cut_while_the_outbox_opens_leaves_it_to_be_opened(new_box: NewBox) -> None:
    """The first start and the start after a cut may be cut themselves, at any step."""
    for cut in range(1, 200):
        with new_box() as box:
            try:
                box.start(cut=cut)
            except PowerWentOff:
                box.start()
                three(box)
                box.cut_now()
                box.start()
                assert len(look(box)["rows"]) == 3
                continue
        break
    assert cut > 10


def test_random_lives_with_random_cuts_lose_nothing(new_box: NewBox) -> None:
    """Many cuts while examples come and go: what was said to be kept is there, what had its receipt is not."""
    rng, cuts = random.Random(3), 0
    with new_box() as box:
        box.start()
        kept: set[str] = set()
        gone: set[str] = set()
        for number in range(120):
            is_receipt = bool(kept) and rng.random() < 0.3
            victim = rng.choice(sorted(kept)) if is_receipt else name_of(number)
            deed = (
                {"name": "receipt", "ids": [victim]}
                if is_receipt
                else {"name": "add", "number": number, "size": SIZE, "value": rng.random()}
            )
            try:
                box.do(**deed, cut=rng.choice([0, 0, rng.randint(1, 20)]))
            except PowerWentOff:
                cuts += 1
                box.start()
                rows = set(look(box)["rows"])
                # What was at hand is there or not; everything else is as it was.
                assert rows - {victim} == kept - {victim}
                kept = rows
                gone -= rows
                continue
            (kept.discard if is_receipt else kept.add)(victim)
            if is_receipt:
                gone.add(victim)
        assert set(look(box)["rows"]) == kept
        assert not kept & gone
    assert cuts > 10
