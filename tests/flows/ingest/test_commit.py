"""Hold the commit of a sample to laws 1 and 2: believed only when proven, never lost, never twice."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import func, select

from fleet_contracts import decode, keys, sample_id_of
from fleet_contracts.keys import Incoming
from fleet_contracts.messages import ReceiptItem
from fleet_contracts.samples import HardExample, Reason
from flows.catalog.forget import ForgetWhat, forget
from flows.catalog.samples import find_sample
from flows.context import Context
from flows.database.schema import QuarantineRow, SampleRow, SightingRow
from flows.errors import StoreAway
from flows.ingest.commit import commit_upload
from flows.ingest.sweep import sweep_incoming
from flows.store import MemoryStore
from tests.flows.ingest.crashing import Crash, Fuse, doomed
from tests.flows.kit import (
    DEVICE,
    START,
    TASK,
    SimulatedBox,
    encode_jpeg,
    make_installation,
    picture,
)


def _count(ctx: Context, table: type) -> int:
    with ctx.database.reader() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def _incoming(ctx: Context) -> list[str]:
    return [info.key for info in ctx.store.list(f"tasks/{TASK}/incoming/")]


def _sidecar(ctx: Context, sample_id: str) -> HardExample:
    key = keys.sample_sidecar(TASK, sample_id)
    return decode(HardExample, ctx.store.get(key), where=key)


def _outcome(item: ReceiptItem | None) -> str:
    return "nothing" if item is None else item.outcome


def test_a_good_upload_is_stored_whole(ctx: Context) -> None:
    """Image, sidecar and catalog row are there, the incoming objects are gone."""
    box, content = SimulatedBox(ctx), picture(1)
    example = box.describe(content, part="plate-1")
    assert _outcome(commit_upload(ctx, box.upload(content, example))) == "stored"
    assert ctx.store.get(keys.sample_image(TASK, example.sample_id)) == content
    sidecar = _sidecar(ctx, example.sample_id)
    assert (sidecar.origin, len(sidecar.look), sidecar.committed_at is not None) == ("mined", 64, True)
    with ctx.database.reader() as session:
        row = session.get_one(SampleRow, (TASK, example.sample_id))
    assert (row.width, row.height, row.reasons) == (96, 64, ["uncertain"])
    assert _incoming(ctx) == []


def test_the_cloud_alone_says_what_it_found_out(ctx: Context) -> None:
    """A box cannot pin a split, name a look, keep a sample for ever or call mined data imported."""
    box, content = SimulatedBox(ctx), picture(2)
    honest = box.describe(content, part="plate-1")
    cheat = honest.model_copy(
        update={
            "pinned_split": "golden",
            "look": "00",
            "origin": "import",
            "keep_until": honest.keep_until + timedelta(days=9999),
        }
    )
    commit_upload(ctx, box.upload(content, cheat))
    sidecar = _sidecar(ctx, honest.sample_id)
    assert (sidecar.pinned_split, sidecar.origin) == (None, "mined")
    assert sidecar.look != "00"
    assert sidecar.keep_until < honest.keep_until + timedelta(days=366)


def test_a_captured_frame_says_so(ctx: Context) -> None:
    """A frame that somebody asked for is told from one the box chose."""
    box, content = SimulatedBox(ctx), picture(3)
    example = box.describe(content, part="p").model_copy(
        update={"reasons": (Reason(rule="capture", score=1),)}
    )
    commit_upload(ctx, box.upload(content, example))
    assert _sidecar(ctx, example.sample_id).origin == "capture"


def test_the_same_bytes_twice_are_one_sample_with_two_sightings(ctx: Context) -> None:
    """The second box's sighting is added to sidecar and catalog; nothing else changes."""
    content = picture(4)
    first, second = SimulatedBox(ctx), SimulatedBox(ctx, "box-2")
    sample_id = first.send(content, part="plate-1")
    late = second.describe(content, part="plate-9", at=START + timedelta(hours=1))
    upload = Incoming(TASK, "0" * 32, sample_id, "image")
    second.put(upload, content, late)
    assert _outcome(commit_upload(ctx, upload)) == "duplicate"
    assert [one.device_id for one in _sidecar(ctx, sample_id).sightings] == [DEVICE, "box-2"]
    assert (_count(ctx, SampleRow), _count(ctx, SightingRow), _incoming(ctx)) == (1, 2, [])


def test_an_incomplete_upload_says_nothing(ctx: Context) -> None:
    """Without image or without announcement there is no receipt, and what is there stays."""
    box, content = SimulatedBox(ctx), picture(5)
    upload = box.upload(content, box.describe(content, part="plate-1"))
    image = keys.incoming(TASK, upload.grant_id, upload.sample_id, "image")
    note = keys.incoming(TASK, upload.grant_id, upload.sample_id, "announcement")
    for gone in (note, image):
        kept = ctx.store.get(gone)
        ctx.store.delete(gone)
        assert commit_upload(ctx, upload) is None
        ctx.store.put(gone, kept)
    assert _outcome(commit_upload(ctx, upload)) == "stored"


def test_torn_bytes_are_set_aside_and_the_box_tries_again(ctx: Context) -> None:
    """Bytes with another hash are quarantined without a receipt; the good copy is still taken afterwards."""
    box, content = SimulatedBox(ctx), picture(6)
    example = box.describe(content, part="plate-1")
    flipped = content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]
    assert commit_upload(ctx, box.upload(content, example, put=flipped)) is None
    assert _count(ctx, QuarantineRow) == 1
    assert _incoming(ctx) == []
    assert len(list(ctx.store.list(f"tasks/{TASK}/quarantine/"))) == 2
    assert _outcome(commit_upload(ctx, box.upload(content, example))) == "stored"


def test_a_sample_that_keeps_arriving_torn_is_given_up(ctx: Context) -> None:
    """After three torn uploads the box's own copy must be damaged, and the box is told so."""
    box, content = SimulatedBox(ctx), picture(7)
    example = box.describe(content, part="plate-1")
    outcomes = [
        _outcome(commit_upload(ctx, box.upload(content, example, put=content[:50]))) for _ in range(3)
    ]
    assert outcomes == ["nothing", "nothing", "quarantined"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"GIF89a and so on", "JPEG or PNG"),
        (picture(8)[:400], "decode|header"),
        (b"\xff\xd8\xff" + b"\x00" * 200, "header"),
        (
            b"\x89PNG\r\n\x1a\n" + b"\x00\x00\x00\rIHDR" + (60000).to_bytes(4, "big") * 2 + bytes(9),
            "pixels|header",
        ),
    ],
)
def test_what_is_no_image_is_quarantined(ctx: Context, content: bytes, words: str) -> None:
    """Bytes with the right hash that no decoder reads are kept aside, with the reason, and the box lets go."""
    box = SimulatedBox(ctx)
    example = box.describe(content, part="plate-1")
    item = commit_upload(ctx, box.upload(content, example))
    assert _outcome(item) == "quarantined"
    with ctx.database.reader() as session:
        row = session.scalars(select(QuarantineRow)).one()
    assert any(word in row.reason for word in words.split("|")), row.reason
    assert ctx.store.get(row.key) == content
    assert row.device_id == DEVICE


def test_a_box_speaks_for_itself_alone(ctx: Context) -> None:
    """A description by another device, of another image or of another size is not believed."""
    box, content, other = SimulatedBox(ctx), picture(9), picture(10)
    strange = SimulatedBox(ctx, "box-2").describe(content, part="plate-1")
    assert _outcome(commit_upload(ctx, box.upload(content, strange))) == "quarantined"
    upload = box.upload(other, box.describe(other, part="plate-2"))
    box.put(upload, other, strange)
    assert _outcome(commit_upload(ctx, upload)) == "quarantined"
    wide = picture(11, width=128)
    wrong = box.describe(picture(12), part="x").model_copy(update={"sample_id": sample_id_of(wide)})
    assert _outcome(commit_upload(ctx, box.upload(wide, wrong))) == "quarantined"


def _upload_torn_note(ctx: Context, box: SimulatedBox, content: bytes) -> Incoming:
    upload = box.upload(content, box.describe(content, part="plate-1"))
    key = keys.incoming(TASK, upload.grant_id, upload.sample_id, "announcement")
    ctx.store.put(key, ctx.store.get(key)[:40])
    return upload


def test_a_torn_announcement_is_set_aside_and_the_box_tries_again(ctx: Context) -> None:
    """An announcement cut off on the way makes no box delete its good copy, which is taken afterwards."""
    box, content = SimulatedBox(ctx), picture(13)
    assert commit_upload(ctx, _upload_torn_note(ctx, box, content)) is None
    assert _count(ctx, QuarantineRow) == 1
    assert _incoming(ctx) == []
    again = box.upload(content, box.describe(content, part="plate-1"))
    assert _outcome(commit_upload(ctx, again)) == "stored"


def test_an_announcement_that_keeps_not_parsing_is_given_up(ctx: Context) -> None:
    """A box that cannot describe its sample is told to let go after three tries."""
    box, content = SimulatedBox(ctx), picture(17)
    outcomes = [_outcome(commit_upload(ctx, _upload_torn_note(ctx, box, content))) for _ in range(3)]
    assert outcomes == ["nothing", "nothing", "quarantined"]


@pytest.mark.parametrize("left", [None, b"", b'{"schema'])
def test_a_lost_sidecar_is_restored_from_the_upload(ctx: Context, left: bytes | None) -> None:
    """After a power cut the catalog may know more than the bucket; the upload and the catalog mend it."""
    box, other, content = SimulatedBox(ctx), SimulatedBox(ctx, "box-2"), picture(18)
    sample_id = box.send(content, part="plate-1")
    before = _sidecar(ctx, sample_id)
    with ctx.database.session() as session:
        session.get_one(SampleRow, (TASK, sample_id)).pinned_split = "golden"
    for key in (keys.sample_sidecar(TASK, sample_id), keys.sample_image(TASK, sample_id)):
        ctx.store.delete(key)
        if left is not None:
            ctx.store.put(key, left)
    upload = Incoming(TASK, "0" * 32, sample_id, "image")
    other.put(upload, content, other.describe(content, part="plate-9", at=START + timedelta(hours=1)))
    assert _outcome(commit_upload(ctx, upload)) == "stored"
    assert ctx.store.get(keys.sample_image(TASK, sample_id)) == content
    after = _sidecar(ctx, sample_id)
    assert (after.pinned_split, after.committed_at) == ("golden", before.committed_at)
    assert [one.device_id for one in after.sightings] == [DEVICE, "box-2"]
    assert (_count(ctx, SampleRow), _count(ctx, SightingRow), _incoming(ctx)) == (1, 2, [])
    with ctx.database.reader() as session:
        assert session.get_one(SampleRow, (TASK, sample_id)).pinned_split == "golden"


def test_a_size_that_was_not_promised_is_not_read(ctx: Context, memory: MemoryStore) -> None:
    """An object larger than granted is refused by its size alone."""
    box, content = SimulatedBox(ctx), picture(14)
    upload = box.upload(content, box.describe(content, part="plate-1"), put=content + bytes(10_000_000))
    before = memory.calls["get"]
    assert commit_upload(ctx, upload) is None
    assert memory.calls["get"] == before + 1, "only the announcement is read"


def test_a_forgotten_sample_does_not_come_back(ctx: Context) -> None:
    """An upload of a forgotten sample is dropped and the box is told."""
    box, content = SimulatedBox(ctx), picture(15)
    example = box.describe(content, part="plate-1")
    upload = box.upload(content, example)
    forget(ctx, TASK, ForgetWhat(sample_id=example.sample_id), by="test", reason="asked to")
    box.put(upload, content, example)
    assert _outcome(commit_upload(ctx, upload)) == "forgotten"
    assert _incoming(ctx) == []
    assert ctx.store.stat(keys.sample_image(TASK, example.sample_id)) is None


def test_a_store_that_is_away_loses_nothing(ctx: Context, memory: MemoryStore) -> None:
    """While the store is away the commit says so; afterwards the sweep finishes it."""
    box, content = SimulatedBox(ctx), picture(16)
    upload = box.upload(content, box.describe(content, part="plate-1"))
    memory.away = True
    with pytest.raises(StoreAway):
        commit_upload(ctx, upload)
    memory.away = False
    assert [swept.item.outcome for swept in sweep_incoming(ctx, TASK)] == ["stored"]


def _operations(tmp_path: Path, *, torn: bool) -> int:
    ctx = make_installation(tmp_path / "measured")
    fuse = Fuse(at=0, after=False)
    _attempt(ctx, fuse, torn=torn)
    ctx.database.close()
    return len(fuse.operations)


def _attempt(ctx: Context, fuse: Fuse, *, torn: bool) -> None:
    content = encode_jpeg(np.full((32, 32, 3), 77, np.uint8))
    box = SimulatedBox(ctx)
    example = box.describe(content, part="plate-1")
    upload = box.upload(content, example, put=content[:-3] if torn else None)
    commit_upload(doomed(ctx, fuse), upload)


@pytest.mark.parametrize("torn", [False, True])
@pytest.mark.parametrize("after", [False, True])
def test_a_kill_at_any_step_loses_nothing(tmp_path: Path, after: bool, torn: bool) -> None:
    """Ingest dies before or after every single operation; the next sweep brings the same end."""
    steps = _operations(tmp_path, torn=torn)
    assert steps >= (7 if not torn else 6)
    for step in range(1, steps + 1):
        ctx = make_installation(tmp_path / f"killed-{step}")
        fuse = Fuse(at=step, after=after)
        with pytest.raises(Crash):
            _attempt(ctx, fuse, torn=torn)
        assert fuse.blown, f"the fault at step {step} must have fired"
        list(sweep_incoming(ctx, TASK))
        assert _incoming(ctx) == [], fuse.operations
        assert _count(ctx, SampleRow) == (0 if torn else 1), fuse.operations
        assert _count(ctx, QuarantineRow) == (1 if torn else 0), fuse.operations
        if not torn:
            with ctx.database.reader() as session:
                sample_id = session.scalars(select(SampleRow.sample_id)).one()
                assert find_sample(session, TASK, sample_id) is not None
            assert sample_id_of(ctx.store.get(keys.sample_image(TASK, sample_id))) == sample_id
            assert _sidecar(ctx, sample_id).sample_id == sample_id
        ctx.database.close()
