"""Test that the least valuable example goes first, only for a more valuable one, and that each loss is told."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from edge_agent.counters import DAMAGED, EVICTED, LOST, LOST_VALUE
from edge_agent.errors import DiskFull
from edge_agent.outbox import DiskGuard, Outbox
from edge_agent.outbox.files import MAX_SET_ASIDE
from edge_agent.outbox.room import Loss
from edge_agent.outbox.usage import DataUsage
from fleet_contracts.base import encode
from fleet_contracts.ids import sample_id_of
from fleet_contracts.samples import HardExample, Reason
from tests.edge_agent.builders import example_of

ROOMY = DiskGuard(10**9, 0)


class Keeper:
    """Keep examples of one size and a chosen value in an outbox with room for `room` of them."""

    def __init__(self, folder: Path, room: int, guard: DiskGuard | None = None) -> None:
        self.size = 500 + len(encode(self.example(0, 0.5)))
        self.outbox = Outbox(folder / "outbox", guard or DiskGuard(room * (self.size + 20), 0))
        self.losses: list[Loss] = []
        self.outbox.on_loss = self.losses.append

    def image(self, number: int) -> bytes:
        return f"{number:0500d}".encode()

    def name(self, number: int) -> str:
        return sample_id_of(self.image(number))

    def example(self, number: int, value: float) -> HardExample:
        return example_of(self.image(number), part=f"part-{number}").model_copy(
            update={"reasons": (Reason(rule="random", score=0.0), Reason(rule="uncertain", score=value))}
        )

    def keep(self, number: int, value: float) -> bool:
        return self.outbox.add(self.image(number), self.example(number, value), {"kept.random": 1})

    def numbers(self) -> set[int]:
        here = {row.sample_id for row in [*self.outbox.due(999), *self.outbox.unanswered(999)]}
        return {number for number in range(50) if self.name(number) in here}


def test_the_least_valuable_goes_first_then_the_oldest(tmp_path: Path) -> None:
    """Of equal ones the oldest; each loss is counted with what it was worth, and its files are gone."""
    keeper = Keeper(tmp_path, room=3)
    for number, value in enumerate((0.5, 0.25, 0.25)):
        assert keeper.keep(number, value)
    assert keeper.keep(3, 0.75)
    assert keeper.numbers() == {0, 2, 3}
    assert keeper.keep(4, 0.75)
    assert keeper.numbers() == {0, 3, 4}
    assert [(loss.why, loss.examples, loss.value) for loss in keeper.losses] == [("evicted", 1, 0.25)] * 2
    counts = keeper.outbox.stored_counts()
    assert counts == {"kept.random": 5, LOST: 2, EVICTED: 2, LOST_VALUE: 500}
    assert len(list((tmp_path / "outbox" / "examples").iterdir())) == 6


@pytest.mark.parametrize("value", [0.0, 0.25, 0.5])
def test_a_newcomer_that_is_worth_no_more_is_the_loss(tmp_path: Path, value: float) -> None:
    """Equal value is not more: what has waited longer stays."""
    keeper = Keeper(tmp_path, room=2)
    keeper.keep(0, 0.5)
    keeper.keep(1, 0.75)
    with pytest.raises(DiskFull, match="bytes waiting"):
        keeper.keep(2, value)
    assert keeper.numbers() == {0, 1}
    assert keeper.losses == []


def test_what_was_asked_for_goes_last_and_never_for_anything(tmp_path: Path) -> None:
    """A capture is worth 1, and nothing is worth more."""
    keeper = Keeper(tmp_path, room=2)
    keeper.keep(0, 1.0)
    keeper.keep(1, 0.5)
    keeper.keep(2, 1.0)
    with pytest.raises(DiskFull):
        keeper.keep(3, 1.0)
    assert keeper.numbers() == {0, 2}


def test_what_the_cloud_may_have_goes_after_all_that_waits(tmp_path: Path) -> None:
    """A sent row worth little outlives a waiting one worth more; alone it goes all the same."""
    keeper = Keeper(tmp_path, room=2)
    keeper.keep(0, 0.1)
    keeper.outbox.mark_granted([keeper.name(0)], "a" * 32)
    keeper.outbox.mark_sent([keeper.name(0)], 0.0)
    keeper.keep(1, 0.5)
    keeper.keep(2, 0.75)
    assert keeper.numbers() == {0, 2}
    keeper.keep(3, 0.75)
    assert keeper.numbers() == {2, 3}


def test_one_example_never_costs_more_than_it_takes(tmp_path: Path) -> None:
    """With the disk filled by others, twice its own bytes are given up at most, however much is missing."""
    free = [10**6]
    keeper = Keeper(tmp_path, room=0, guard=DiskGuard(10**9, 50_000, lambda folder: free[0]))
    for number in range(20):
        keeper.keep(number, 0.25)
    free[0] = 0
    assert keeper.keep(30, 0.75)
    assert len(keeper.numbers()) in (18, 19)
    with pytest.raises(DiskFull, match="50000 bytes left free"):
        keeper.keep(31, 0.25)


def test_a_file_system_that_is_fuller_than_it_says_is_no_end(tmp_path: Path) -> None:
    """ENOSPC in the middle of writing folds the database's log, then makes room, and tries again."""
    keeper = Keeper(tmp_path, room=99)
    keeper.keep(0, 0.25)
    write, calls = keeper.outbox._files.write, []

    def full_at_first(image: bytes, example: HardExample) -> int:
        calls.append(len(image))
        if len(calls) < 3:
            raise OSError(28, "No space left on device")
        return write(image, example)

    keeper.outbox._files.write = full_at_first  # type: ignore[method-assign]
    assert keeper.keep(1, 0.75)
    assert len(calls) == 3
    assert keeper.numbers() == {1}


def test_the_most_valuable_is_asked_for_first_then_the_oldest(tmp_path: Path) -> None:
    """Rows put and not yet answered are told apart, and values below a limit are left out."""
    keeper = Keeper(tmp_path, room=9)
    for number, value in enumerate((0.2, 0.9, 0.2, 1.0, 0.5)):
        keeper.keep(number, value)
    order = [keeper.name(number) for number in (3, 1, 4, 0, 2)]
    assert [row.sample_id for row in keeper.outbox.due(9)] == order
    assert [row.sample_id for row in keeper.outbox.due(9, at_least=0.9)] == order[:2]
    keeper.outbox.mark_granted(order[:1], "a" * 32)
    keeper.outbox.mark_sent(order[:1], 0.0)
    assert [row.sample_id for row in keeper.outbox.due(9)] == order[1:]
    assert [(row.sample_id, row.grant_id) for row in keeper.outbox.unanswered(9)] == [(order[0], "a" * 32)]


def test_a_more_valuable_sighting_makes_an_example_more_valuable(tmp_path: Path) -> None:
    """The same bytes asked for by name are not evicted for what they were worth before."""
    keeper = Keeper(tmp_path, room=2)
    keeper.keep(0, 0.25)
    again = keeper.example(0, 1.0)
    sighting = again.sightings[0].model_copy(update={"part_id": "other"})
    keeper.outbox.add(keeper.image(0), again.model_copy(update={"sightings": (sighting,)}), {})
    keeper.keep(1, 0.5)
    keeper.keep(2, 0.75)
    assert keeper.numbers() == {0, 2}


def test_everything_in_the_data_folder_is_under_one_quota(tmp_path: Path) -> None:
    """Set-aside files, engine caches of releases that do not serve, and quarantine go before any example."""
    keep = [write(tmp_path / name, 4000) for name in ("releases/000002/model.onnx", "releases/000002/engine/a",
                                                      "releases/000001/model.onnx", "logs/agent.log")]  # fmt: skip
    cleared = [write(tmp_path / name, 4000) for name in ("outbox/damaged/outbox.db", "releases/000001/engine/a",
                                                         "quarantine/bad.jpg")]  # fmt: skip
    write(
        tmp_path / "releases/slots.json", text='{"current": 2, "previous": 1, "confirmed": true, "starts": 0}'
    )
    clock = [0.0]
    usage = DataUsage(tmp_path, lambda: clock[0])
    guard = DiskGuard(10**9, 0, data_quota=usage.beside_examples() + 500_000, usage=usage)
    keeper = Keeper(tmp_path, room=0, guard=guard)
    clock[0] += 61
    number = 0
    while len(keeper.losses) == 0:
        assert keeper.keep(number, 0.5 if number < 12 else 0.9)
        number += 1
        if number == 12:
            write(tmp_path / "logs/more.log", guard.data_quota - usage.beside_examples() - 12 * keeper.size)
            clock[0] += 61
    assert not any(path.exists() for path in cleared)
    assert all(path.exists() for path in keep)
    assert keeper.losses[0].why == "evicted"


def write(path: Path, size: int = 0, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() or bytes(size))
    return path


def test_the_folder_is_walked_once_a_minute_at_most(tmp_path: Path) -> None:
    """Adding examples costs no walk of a large tree; a link out of the folder is not followed."""
    clock = [0.0]
    usage = DataUsage(tmp_path, lambda: clock[0])
    write(tmp_path / "a" / "b", 100)
    write(tmp_path / "outbox" / "examples" / "x.jpg", 1000)
    (tmp_path / "away").symlink_to("/usr")
    first = usage.beside_examples()
    assert 100 <= first < 1000
    write(tmp_path / "a" / "c", 50)
    clock[0] = 59.0
    assert usage.beside_examples() == first
    clock[0] = 61.0
    assert usage.beside_examples() == first + 50


@pytest.mark.parametrize("damage", ["image", "announcement", "gone"])
def test_a_damaged_example_is_set_aside_and_counted_when_it_is_read(tmp_path: Path, damage: str) -> None:
    """It is asked for no more, the next one is read, and a person finds the pieces."""
    keeper = Keeper(tmp_path, room=9)
    keeper.keep(0, 0.9)
    keeper.keep(1, 0.5)
    examples = tmp_path / "outbox" / "examples"
    if damage == "announcement":
        (examples / f"{keeper.name(0)}.json").write_bytes(b"{")
    elif damage == "image":
        (examples / f"{keeper.name(0)}.jpg").write_bytes(b"torn")
    else:
        (examples / f"{keeper.name(0)}.jpg").unlink()
    assert keeper.outbox.read(keeper.name(0)) is None
    assert keeper.numbers() == {1}
    assert [loss.why for loss in keeper.losses] == ["damaged"]
    counts = keeper.outbox.stored_counts()
    assert (counts[LOST], counts[DAMAGED]) == (1, 1)
    assert keeper.outbox.read(keeper.name(1)) is not None
    aside = {path.suffix for path in (tmp_path / "outbox").glob("damaged/*")}
    assert aside == ({".jpg", ".json"} if damage != "gone" else set())


def test_only_the_newest_set_aside_files_are_kept(tmp_path: Path) -> None:
    """A failing disk does not fill itself with its failures."""
    keeper = Keeper(tmp_path, room=99)
    for number in range(MAX_SET_ASIDE):
        keeper.keep(number, 0.5)
        (tmp_path / "outbox" / "examples" / f"{keeper.name(number)}.jpg").write_bytes(b"torn")
        assert keeper.outbox.read(keeper.name(number)) is None
    assert len(list((tmp_path / "outbox" / "damaged").iterdir())) == MAX_SET_ASIDE
    assert keeper.outbox.stored_counts()[DAMAGED] == MAX_SET_ASIDE


def test_reading_while_receipts_come_loses_nothing(tmp_path: Path) -> None:
    """Files that go on a receipt between two reads are no damage."""
    keeper = Keeper(tmp_path, room=99)
    for number in range(40):
        keeper.keep(number, 0.5)

    def read_all() -> None:
        for _ in range(20):
            for number in range(40):
                keeper.outbox.read(keeper.name(number))

    reader = threading.Thread(target=read_all)
    reader.start()
    for number in range(40):
        keeper.outbox.forget([keeper.name(number)], lambda deleted: {"receipts": deleted})
    reader.join(30)
    assert keeper.outbox.stored_counts() == {"kept.random": 40, "receipts": 40}
