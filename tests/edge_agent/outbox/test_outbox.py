"""Test that an example, once kept, stays until its receipt, and that a full disk is said and not suffered."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.errors import DiskFull
from edge_agent.outbox import DiskGuard, Outbox, PartKey
from fleet_contracts.base import decode
from fleet_contracts.ids import sample_id_of
from fleet_contracts.samples import HardExample
from tests.edge_agent.builders import example_of, jpeg
from tests.helpers import ROOT

ROOMY = DiskGuard(10**9, 0)


class Clock:
    """Be a clock the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_an_example_leaves_on_its_receipt_alone(tmp_path: Path) -> None:
    """Being granted or sent deletes nothing; a receipt deletes row and files, twice does no harm."""
    outbox, image = Outbox(tmp_path, ROOMY), jpeg(1)
    example = example_of(image)
    assert outbox.add(image, example, {"kept.uncertain": 1})
    outbox.mark_granted([example.sample_id], "g" * 32)
    outbox.mark_sent([example.sample_id], 0.0)
    assert outbox.states() == {"sent": 1}
    files = outbox.read(example.sample_id)
    assert files is not None
    assert files[0] == image
    assert decode(HardExample, files[1], where="file") == example
    assert outbox.forget([example.sample_id], lambda deleted: {"receipts": deleted}) == 1
    assert outbox.forget([example.sample_id], lambda deleted: {"receipts": deleted}) == 0
    assert outbox.waiting() == 0
    assert outbox.read(example.sample_id) is None
    assert list((tmp_path / "examples").iterdir()) == []
    assert outbox.stored_counts() == {"kept.uncertain": 1, "receipts": 1}


def test_the_same_bytes_are_one_example_with_two_sightings(tmp_path: Path) -> None:
    """Keeping a frame twice counts once; another part's sighting is added and sent."""
    outbox, image = Outbox(tmp_path, ROOMY), jpeg(1)
    assert outbox.add(image, example_of(image, part="a"), {"kept.uncertain": 1})
    outbox.mark_sent([sample_id_of(image)], 60.0)
    assert not outbox.add(image, example_of(image, part="a"), {"kept.uncertain": 1})
    assert outbox.states() == {"sent": 1}
    assert not outbox.add(image, example_of(image, part="b"), {"kept.uncertain": 1})
    assert outbox.states() == {"waiting": 1}
    files = outbox.read(sample_id_of(image))
    assert files is not None
    assert [one.part_id for one in decode(HardExample, files[1], where="file").sightings] == ["a", "b"]
    assert outbox.stored_counts() == {"kept.uncertain": 1}


def test_a_frame_kept_before_a_kill_is_not_kept_again(tmp_path: Path) -> None:
    """Though its row left on a receipt, a frame whose part was not done is passed over when it comes again."""
    outbox, image = Outbox(tmp_path, ROOMY), jpeg(1)
    assert outbox.add(image, example_of(image), {"kept.random": 1})
    outbox.forget([sample_id_of(image)], lambda deleted: {})
    outbox.close()
    outbox = Outbox(tmp_path, ROOMY)
    assert not outbox.add(image, example_of(image), {"kept.random": 1})
    assert outbox.stored_counts() == {"kept.random": 1}
    outbox.mark_done("folder:a", ["1.jpg"], {}, [PartKey("cam0", "part-1")])
    assert outbox.add(image, example_of(image), {"kept.random": 1})


def test_progress_of_files_that_are_gone_is_let_go(tmp_path: Path) -> None:
    """A folder that is emptied by others does not fill the outbox for ever."""
    outbox = Outbox(tmp_path, ROOMY)
    outbox.mark_done("folder:a", ["1.jpg", "2.jpg"], {})
    outbox.forget_progress("folder:a", {"1.jpg"})
    assert outbox.progress("folder:a") == {"2.jpg"}


def test_rows_are_due_again_after_their_wait(tmp_path: Path) -> None:
    """Postponed rows come back; a restart makes everything due, for its clock is another."""
    clock = Clock()
    outbox = Outbox(tmp_path, ROOMY, clock)
    ids = []
    for number in range(3):
        image = jpeg(number)
        outbox.add(image, example_of(image), {})
        ids.append(sample_id_of(image))
    assert len(outbox.due(2)) == 2
    outbox.postpone(ids, 10.0)
    assert outbox.due(64) == []
    clock.now += 11
    assert {row.attempts for row in outbox.due(64)} == {1}
    outbox.postpone(ids, 1000.0)
    outbox.close()
    clock.now = 5.0
    assert [row.attempts for row in Outbox(tmp_path, ROOMY, clock).due(64)] == [0, 0, 0]


def test_progress_and_counts_are_stored_together(tmp_path: Path) -> None:
    """A restart knows what was done and what was counted; a token stored twice is one."""
    outbox = Outbox(tmp_path, ROOMY)
    outbox.mark_done("folder:a", ["1.jpg", "2.jpg"], {"frames_inspected": 2})
    outbox.mark_done("folder:a", ["2.jpg"], {"frames_inspected": 1})
    outbox.mark_done("folder:b", ["9.jpg"], {})
    outbox.close()
    again = Outbox(tmp_path, ROOMY)
    assert again.progress("folder:a") == {"1.jpg", "2.jpg"}
    assert again.stored_counts() == {"frames_inspected": 3}


@pytest.mark.parametrize(
    ("guard", "words"),
    [
        (DiskGuard(500, 0), "500 bytes waiting"),
        (DiskGuard(10**9, 100, lambda folder: 90), "100 bytes left free"),
    ],
)
def test_a_full_disk_or_quota_keeps_nothing_and_says_so(tmp_path: Path, guard: DiskGuard, words: str) -> None:
    """Nothing half is left behind, and the numbers are in the message."""
    outbox, image = Outbox(tmp_path, guard), jpeg(1)
    with pytest.raises(DiskFull, match=words):
        outbox.add(image, example_of(image), {"kept.uncertain": 1})
    assert outbox.waiting() == 0
    assert list((tmp_path / "examples").iterdir()) == []
    assert outbox.stored_counts() == {}


def test_a_row_that_finds_no_room_leaves_no_files(tmp_path: Path) -> None:
    """What is counted as lost does not come back at the next start, and takes no room until then."""
    outbox, first, image = Outbox(tmp_path, ROOMY), jpeg(1), jpeg(2)
    outbox.add(first, example_of(first), {})
    pages = outbox._database.execute("PRAGMA page_count").fetchone()[0]
    outbox._database.execute(f"PRAGMA max_page_count={pages}")

    def fill(number: int = 2) -> None:
        nonlocal image
        while number < 1000:
            image, number = jpeg(number) + number.to_bytes(4, "big"), number + 1
            outbox.add(image, example_of(image), {f"kept.{number}": 1})

    with pytest.raises(DiskFull, match="database"):
        fill()
    assert outbox.read(sample_id_of(image)) is None
    kept = outbox.waiting()
    assert kept < 1000
    # A receipt is settled all the same, since deleting needs no room that deleting does not make.
    assert outbox.forget([sample_id_of(first)], lambda deleted: {"receipts": deleted}) == 1
    assert outbox.waiting() == kept - 1


def test_the_quota_is_free_again_after_receipts(tmp_path: Path) -> None:
    """What was deleted makes room, also counted over a restart."""
    image, other = jpeg(1), jpeg(2)
    guard = DiskGuard(len(image) + 1200, 0)
    outbox = Outbox(tmp_path, guard)
    outbox.add(image, example_of(image), {})
    with pytest.raises(DiskFull):
        outbox.add(other, example_of(other), {})
    outbox.close()
    outbox = Outbox(tmp_path, guard)
    with pytest.raises(DiskFull):
        outbox.add(other, example_of(other), {})
    outbox.forget([sample_id_of(image)], lambda deleted: {})
    assert outbox.add(other, example_of(other), {})


WRITE_UNTIL_FULL = """
import resource, signal, sys
from pathlib import Path
from edge_agent.errors import DiskFull
from edge_agent.outbox import DiskGuard, Outbox, PartKey
from tests.edge_agent.builders import example_of, jpeg
outbox = Outbox(Path(sys.argv[1]), DiskGuard(10**9, 0))
small, large = jpeg(1), jpeg(2, 4000)
outbox.add(small, example_of(small), {})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
try:
    outbox.add(large, example_of(large), {})
except DiskFull as error:
    print("full", outbox.waiting())
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(outbox.add(large, example_of(large), {}), outbox.waiting())
"""


def test_a_write_the_system_cuts_short_leaves_nothing_and_works_later(tmp_path: Path) -> None:
    """The system itself refuses in the middle of a file (file size limit): no half file, no row, no end."""
    assert len(jpeg(2, 4000)) > 20_000
    done = subprocess.run(
        [sys.executable, "-c", WRITE_UNTIL_FULL, str(tmp_path)],
        cwd=ROOT,
        timeout=60,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == ["full 1", "True 2"], done.stderr
    names = {path.name for path in (tmp_path / "examples").iterdir()}
    assert len(names) == 4
    assert not any(name.endswith(".tmp") for name in names)
