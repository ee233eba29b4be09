"""Test what the outbox knows after a kill, a cut between two steps, and a damaged database."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edge_agent.errors import OutboxError
from edge_agent.outbox import DiskGuard, Outbox
from edge_agent.outbox.files import ExampleFiles
from fleet_contracts.ids import sample_id_of
from tests.edge_agent.builders import example_of, jpeg
from tests.helpers import ROOT

ROOMY = DiskGuard(10**9, 0)
WRITE_FOR_EVER = """
import sys
from pathlib import Path
from edge_agent.outbox import DiskGuard, Outbox
from fleet_contracts.ids import sample_id_of
from tests.edge_agent.builders import example_of, jpeg
outbox = Outbox(Path(sys.argv[1]), DiskGuard(10**9, 0))
number = int(sys.argv[2])
while True:
    image = jpeg(number) + number.to_bytes(8, "big")
    outbox.add(image, example_of(image), {"kept.uncertain": 1})
    print(sample_id_of(image), flush=True)
    number += 1
"""


def test_no_acknowledged_example_is_lost_by_kill_9(tmp_path: Path) -> None:
    """After each of five kills every example the writer was told is kept is there, whole, and counted once."""
    acknowledged: set[str] = set()
    for attempt in range(5):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITE_FOR_EVER, str(tmp_path), str(attempt * 10**6)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        for _ in range(random.Random(attempt).randint(3, 25)):
            acknowledged.add(writer.stdout.readline().strip())
        writer.kill()
        acknowledged.update(line.strip() for line in writer.stdout.readlines() if len(line) == 65)
        assert writer.wait(10) == -signal.SIGKILL
        outbox = Outbox(tmp_path, ROOMY)
        kept = {row.sample_id for row in outbox.due(100_000)}
        assert acknowledged <= kept
        # At most the one at hand was kept without being acknowledged.
        assert len(kept - acknowledged) <= attempt + 1
        for sample_id in kept:
            files = outbox.read(sample_id)
            assert files is not None
            assert sample_id_of(files[0]) == sample_id
        assert outbox.stored_counts()["kept.uncertain"] == len(kept)
        outbox.close()
    assert len(acknowledged) > 15


def test_files_without_a_row_are_taken_in(tmp_path: Path) -> None:
    """A cut between files and row loses nothing."""
    Outbox(tmp_path, ROOMY).close()
    image = jpeg(1)
    ExampleFiles(tmp_path / "examples").write(image, example_of(image, rule="random"))
    outbox = Outbox(tmp_path, ROOMY)
    assert outbox.recovered == 1
    assert [row.sample_id for row in outbox.due(9)] == [sample_id_of(image)]
    assert outbox.stored_counts() == {"kept.random": 1}


def test_an_example_with_a_receipt_does_not_come_back(tmp_path: Path) -> None:
    """A cut between the decision to delete and the deletion leaves nothing to upload again."""
    outbox, image = Outbox(tmp_path, ROOMY), jpeg(1)
    outbox.add(image, example_of(image), {})

    def cut(sample_id: str) -> None:
        raise KeyboardInterrupt

    outbox._files.remove = cut  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        outbox.forget([sample_id_of(image)], lambda deleted: {"receipts": deleted})
    assert len(list((tmp_path / "examples").iterdir())) == 2
    outbox.close()
    again = Outbox(tmp_path, ROOMY)
    assert (again.waiting(), again.recovered) == (0, 0)
    assert again.stored_counts() == {"receipts": 1}
    assert list((tmp_path / "examples").iterdir()) == []


def test_half_written_examples_are_cleared_away(tmp_path: Path) -> None:
    """An image without its announcement, temporary files and damaged images are no examples."""
    Outbox(tmp_path, ROOMY).close()
    folder, image, other = tmp_path / "examples", jpeg(1), jpeg(2)
    (folder / f"{sample_id_of(image)}.jpg").write_bytes(image)
    (folder / f".{sample_id_of(image)}.json.77.tmp").write_bytes(b"{")
    ExampleFiles(folder).write(other, example_of(other))
    (folder / f"{sample_id_of(other)}.jpg").write_bytes(other[:50])
    outbox = Outbox(tmp_path, ROOMY)
    assert (outbox.waiting(), outbox.recovered) == (0, 0)
    assert list(folder.iterdir()) == []


def test_a_row_whose_files_are_gone_is_counted_as_lost(tmp_path: Path) -> None:
    """What somebody deleted by hand does not wait for ever, and is not hidden."""
    outbox, image = Outbox(tmp_path, ROOMY), jpeg(1)
    outbox.add(image, example_of(image), {})
    outbox.close()
    for path in (tmp_path / "examples").iterdir():
        path.unlink()
    again = Outbox(tmp_path, ROOMY)
    assert again.waiting() == 0
    assert again.stored_counts() == {"outbox_lost": 1}


@pytest.mark.parametrize("damage", ["header", "middle", "cut", "foreign"])
def test_a_damaged_database_is_set_aside_and_built_again(tmp_path: Path, damage: str) -> None:
    """Every example comes back from the files; the damaged database is kept for a person to look at."""
    outbox = Outbox(tmp_path, ROOMY)
    ids = set()
    for number in range(40):
        image = jpeg(number)
        outbox.add(image, example_of(image), {})
        ids.add(sample_id_of(image))
    outbox.close()
    path = tmp_path / "outbox.db"
    content = bytearray(path.read_bytes())
    assert len(content) > 20_000
    if damage == "header":
        content[:100] = bytes(100)
    elif damage == "middle":
        content[4096 : len(content) - 4096] = b"\x5a" * (len(content) - 8192)
    elif damage == "cut":
        del content[5000:]
    else:
        content = bytearray(b"this was a database once" * 1000)
    path.write_bytes(content)
    again = Outbox(tmp_path, ROOMY)
    assert {row.sample_id for row in again.due(100)} == ids
    assert again.recovered == 40
    assert (tmp_path / "damaged" / "outbox.db").read_bytes() == bytes(content)


def test_a_newer_agents_outbox_is_refused(tmp_path: Path) -> None:
    """An older agent does not touch what it does not understand, and says what to do."""
    outbox = Outbox(tmp_path, ROOMY)
    outbox._database.execute("PRAGMA user_version=99")
    outbox.close()
    with pytest.raises(OutboxError, match="newer agent"):
        Outbox(tmp_path, ROOMY)


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """The error names the folder."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutboxError, match="file"):
        Outbox(tmp_path / "file", ROOMY)


def test_on_a_full_disk_a_database_in_memory_stands_in(tmp_path: Path) -> None:
    """What is kept is taken in and can be sent; the next start with room counts no loss for it."""
    outbox, image = Outbox(tmp_path, ROOMY), jpeg(1)
    outbox.add(image, example_of(image), {})
    outbox.close()
    # SQLite cannot open what lies there, as it cannot on a disk without room for its log.
    path, away = tmp_path / "outbox.db", tmp_path / "away.db"
    path.rename(away)
    path.mkdir()
    full = Outbox(tmp_path, DiskGuard(10**9, 0, lambda folder: 0))
    assert full.in_memory
    assert [row.sample_id for row in full.due(9)] == [sample_id_of(image)]
    assert full.forget([sample_id_of(image)], lambda deleted: {"receipts": deleted}) == 1
    full.close()
    path.rmdir()
    away.rename(path)
    again = Outbox(tmp_path, ROOMY)
    assert not again.in_memory
    assert again.waiting() == 0
    assert again.stored_counts() == {}


def test_a_database_that_cannot_be_opened_though_there_is_room_is_an_error(tmp_path: Path) -> None:
    """Nobody is served by hiding a wrong owner or a locked database."""
    (tmp_path / "outbox.db").mkdir()
    with pytest.raises(OutboxError, match="unable to open"):
        Outbox(tmp_path, ROOMY)


def test_an_outbox_of_version_1_is_taken_over(tmp_path: Path) -> None:
    """A file made by the first version: rows, states, progress and counts stay, and values are read."""
    with zipfile.ZipFile(Path(__file__).with_name("version-1.zip")) as old:
        old.extractall(tmp_path)
    outbox = Outbox(tmp_path, ROOMY)
    assert outbox.recovered == 0
    values = {row.sample_id: row.value for row in [*outbox.due(9), *outbox.unanswered(9)]}
    assert sorted(values.values()) == [0.25, 0.5, 1.0]
    assert [row.value for row in outbox.unanswered(9)] == [0.5]
    assert outbox.states() == {"sent": 1, "waiting": 2}
    assert outbox.progress("folder:a") == {"0.jpg"}
    assert outbox.stored_counts() == {"kept.uncertain": 3, "frames_inspected": 3}
    assert all(outbox.read(sample_id) is not None for sample_id in values)
    outbox.close()
    assert Outbox(tmp_path, ROOMY).states() == {"sent": 1, "waiting": 2}


def test_a_damaged_example_without_a_row_is_set_aside_at_the_start(tmp_path: Path) -> None:
    """It is counted as lost, and the start is no crash loop."""
    Outbox(tmp_path, ROOMY).close()
    image, good = jpeg(1), jpeg(2)
    files = ExampleFiles(tmp_path / "examples")
    for one in (image, good):
        files.write(one, example_of(one))
    (tmp_path / "examples" / f"{sample_id_of(image)}.jpg").write_bytes(b"torn")
    (tmp_path / "examples" / f"{'0' * 64}.json").write_bytes(b"an announcement without an image")
    outbox = Outbox(tmp_path, ROOMY)
    assert outbox.recovered == 1
    assert outbox.stored_counts() == {"kept.uncertain": 1, "outbox_lost": 1, "outbox_damaged": 1}
    assert len(list((tmp_path / "damaged").iterdir())) == 2
    assert len(list((tmp_path / "examples").iterdir())) == 2
