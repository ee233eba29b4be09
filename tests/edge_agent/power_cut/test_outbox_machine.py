"""Let hypothesis find a life of the outbox that loses, doubles or miscounts an example."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from fleet_contracts.ids import sample_id_of
from tests.edge_agent.power_cut.box import CuttableOutbox, Driver, PowerWentOff
from tests.edge_agent.power_cut.driver import picture_of
from tests.edge_agent.power_cut.harness import PowerSupply

SIZES = st.sampled_from([300, 900, 2500])
VALUES = st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])
CUTS = st.one_of(st.just(0), st.integers(1, 25))


class OutboxLife(RuleBasedStateMachine):
    """Do to an outbox what a box does, cutting the power at any step, beside a model of what must be in it."""

    driver: ClassVar[Driver]
    shim: ClassVar[Path]
    folder: ClassVar[Path]
    lives: ClassVar[itertools.count[int]] = itertools.count()
    fired: ClassVar[dict[str, int]] = {"cuts": 0, "evictions": 0, "receipts": 0, "refusals": 0}

    examples = Bundle("examples")

    def __init__(self) -> None:
        super().__init__()
        place = self.folder / str(next(self.lives))
        self.box = CuttableOutbox(self.driver, PowerSupply(self.shim, place / "data", place / "state"), 8000)
        self.values: dict[str, float] = {}
        self.numbers = itertools.count()
        self.seen: dict[str, Any] = {}

    @initialize()
    def begin(self) -> None:
        self.box.start()
        self.look()

    def look(self) -> None:
        self.seen = self.box.do("look")

    def do(self, name: str, touched: set[str], cut: int, **arguments: Any) -> Any:
        """Do a deed that may change the `touched` rows only; None if the power went."""
        before = self.seen
        try:
            done = self.box.do(name, cut=cut, **arguments)
        except PowerWentOff:
            self.fired["cuts"] += 1
            self.box.start()
            done = None
        self.look()
        gone = set(before["rows"]) - set(self.seen["rows"]) - touched
        come = set(self.seen["rows"]) - set(before["rows"]) - touched
        assert not come, "nothing comes back"
        if name != "add":
            assert not gone, "only room for a newcomer costs others their place"
            return done
        evicted = self.count("outbox_evicted") - before["counts"].get("outbox_evicted", 0)
        assert len(gone) == evicted, "each that goes is counted"
        self.fired["evictions"] += evicted
        newcomer = arguments["value"]
        assert all(self.values[one] < newcomer for one in gone), "none goes for a less valuable one"
        kept = [one for one in before["rows"] if one not in gone and before["states"][one] != "sent"]
        unsent = [one for one in gone if before["states"][one] != "sent"]
        worst = max((self.values[one] for one in unsent), default=0.0)
        assert all(self.values[one] >= worst for one in kept), "the least valuable goes first"
        return done

    def count(self, name: str) -> int:
        return int(self.seen["counts"].get(name, 0))

    @rule(target=examples, size=SIZES, value=VALUES, cut=CUTS)
    def add(self, size: int, value: float, cut: int) -> Any:
        number = next(self.numbers)
        sample_id = sample_id_of(picture_of(number, size))
        self.values[sample_id] = value
        done = self.do("add", {sample_id}, cut, number=number, size=size, value=value)
        if done == "full":
            self.fired["refusals"] += 1
            assert sample_id not in self.seen["rows"]
            return multiple()
        assert done is None or sample_id in self.seen["rows"], "what it says is kept is there"
        return sample_id

    @rule(one=examples, cut=CUTS)
    def grant(self, one: str, cut: int) -> None:
        self.do("grant", set(), cut, ids=[one])

    @rule(one=examples, cut=CUTS)
    def send(self, one: str, cut: int) -> None:
        self.do("grant", set(), 0, ids=[one])
        self.do("sent", set(), cut, ids=[one])

    @rule(one=consumes(examples), cut=CUTS)
    def receipt(self, one: str, cut: int) -> None:
        was_here = one in self.seen["rows"]
        done = self.do("receipt", {one}, cut, ids=[one])
        if done is not None:
            assert done == was_here
            assert one not in self.seen["rows"]
            self.fired["receipts"] += done

    @rule(number=st.integers(0, 5), cut=CUTS)
    def progress(self, number: int, cut: int) -> None:
        before = set(self.seen["progress"])
        done = self.do("progress", set(), cut, tokens=[f"{number}.jpg"])
        assert before <= set(self.seen["progress"]), "progress is never lost"
        assert done is not None or cut or f"{number}.jpg" in self.seen["progress"]

    @rule()
    def power_cut(self) -> None:
        before = self.seen
        self.box.cut_now()
        self.box.start()
        self.look()
        assert self.seen["rows"] == before["rows"]
        assert self.seen["counts"] == before["counts"]

    @invariant()
    def books_are_right(self) -> None:
        if not self.seen:
            return
        left = self.count("receipts") + self.count("outbox_evicted")
        assert self.count("kept.test") - left == self.seen["waiting"] == len(self.seen["rows"])
        assert self.count("outbox_lost") == self.count("outbox_evicted")
        assert all(self.seen["whole"].values()), "no row without its files"
        files = sorted(f"{one}.{kind}" for one in self.seen["rows"] for kind in ("jpg", "json"))
        assert self.seen["files"] == files, "no file without its row"
        assert self.seen["bytes"] <= self.box.quota
        assert all(self.seen["rows"][one] == self.values[one] for one in self.seen["rows"])

    def teardown(self) -> None:
        self.box.end()


def live(driver: Driver, shim: Path, folder: Path, lives: int, steps: int) -> None:
    OutboxLife.driver, OutboxLife.shim, OutboxLife.folder = driver, shim, folder
    OutboxLife.fired.update(dict.fromkeys(OutboxLife.fired, 0))
    run_state_machine_as_test(
        OutboxLife,
        settings=settings(
            max_examples=lives,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert all(OutboxLife.fired.values()), OutboxLife.fired


def test_no_life_of_the_outbox_loses_doubles_or_miscounts(
    driver: Driver, shim: Path, fast_folder: Path
) -> None:
    """Some dozens of lives with cuts, evictions, receipts and refusals, each of which is seen to happen."""
    live(driver, shim, fast_folder, lives=40, steps=25)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_no_long_life_of_the_outbox_loses_doubles_or_miscounts(
    driver: Driver, shim: Path, fast_folder: Path
) -> None:
    """The same with more and longer lives."""
    live(driver, shim, fast_folder, lives=300, steps=60)
