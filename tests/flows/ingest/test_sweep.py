"""Hold the sweep to law 1: what no message announced is found, and leftovers go."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from fleet_contracts import decode, keys, utc_now
from fleet_contracts.samples import HardExample
from flows.context import Context
from flows.errors import StoreAway, StoreRefused
from flows.ingest.commit import commit_upload
from flows.ingest.sweep import LEFTOVER_AFTER, sweep_incoming
from flows.store import MemoryStore
from tests.flows.kit import DEVICE, TASK, SimulatedBox, make_installation, picture


def _incoming(ctx: Context) -> list[str]:
    return [info.key for info in ctx.store.list(f"tasks/{TASK}/incoming/")]


def test_unannounced_uploads_are_taken_in_and_their_device_is_known(ctx: Context) -> None:
    """Uploads whose announcement message was lost are committed, with a receipt for the right device."""
    box = SimulatedBox(ctx)
    for number in range(3):
        content = picture(number)
        box.upload(content, box.describe(content, part=f"plate-{number}"))
    swept = list(sweep_incoming(ctx, TASK))
    assert [(one.device_id, one.item.outcome) for one in swept] == [(DEVICE, "stored")] * 3
    assert _incoming(ctx) == []
    assert list(sweep_incoming(ctx, TASK)) == []


def test_a_half_upload_stays_until_its_grant_is_long_over(ctx: Context) -> None:
    """An image without announcement may still be completed; a day after nobody will."""
    box, content = SimulatedBox(ctx), picture(1)
    upload = box.upload(content, box.describe(content, part="plate-1"))
    ctx.store.delete(keys.incoming(TASK, upload.grant_id, upload.sample_id, "announcement"))
    assert list(sweep_incoming(ctx, TASK)) == []
    assert len(_incoming(ctx)) == 1
    assert list(sweep_incoming(ctx, TASK, now=utc_now() + LEFTOVER_AFTER + timedelta(minutes=1))) == []
    assert _incoming(ctx) == []


def test_a_late_put_of_a_committed_sample_is_cleared_away(ctx: Context) -> None:
    """A presigned URL may be used again after the receipt; what it leaves is removed."""
    box, content = SimulatedBox(ctx), picture(1)
    example = box.describe(content, part="plate-1")
    upload = box.upload(content, example)
    list(sweep_incoming(ctx, TASK))
    ctx.store.put(keys.incoming(TASK, upload.grant_id, upload.sample_id, "image"), b"something else")
    assert [one.item.outcome for one in sweep_incoming(ctx, TASK)] == ["duplicate"]
    assert _incoming(ctx) == []
    assert ctx.store.get(keys.sample_image(TASK, example.sample_id)) == content


def test_foreign_keys_are_left_alone(ctx: Context) -> None:
    """Objects that are not named as uploads are neither read nor removed."""
    ctx.store.put(f"tasks/{TASK}/incoming/notes.txt", b"hello")
    assert list(sweep_incoming(ctx, TASK)) == []
    assert _incoming(ctx) == [f"tasks/{TASK}/incoming/notes.txt"]


def test_an_upload_of_an_unknown_grant_is_taken_in(ctx: Context) -> None:
    """After the database was lost, complete uploads still find their way; nobody can be told, the box asks."""
    from fleet_contracts.keys import Incoming

    box, content = SimulatedBox(ctx), picture(1)
    example = box.describe(content, part="plate-1")
    box.put(Incoming(TASK, "0" * 32, example.sample_id, "image"), content, example)
    assert [(one.device_id, one.item.outcome) for one in sweep_incoming(ctx, TASK)] == [(None, "stored")]


class RefusingStore(MemoryStore):
    """Refuse to read one key, and count how often it was asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.refused_key = ""
        self.refusals = 0

    def get(self, key: str, *, limit: int | None = None) -> bytes:
        """Return an object's content, unless it is the refused one."""
        if key == self.refused_key:
            self.refusals += 1
            raise StoreRefused(expected="an object", got="forbidden", where=key)
        return super().get(key, limit=limit)


def test_one_bad_upload_does_not_keep_the_others_waiting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An upload the store refuses to give is skipped with a warning, and taken in once it can be read."""
    store = RefusingStore()
    ctx = make_installation(tmp_path / "installation", store=store)
    box = SimulatedBox(ctx)
    for number in range(3):
        box.upload(picture(number), box.describe(picture(number), part=f"plate-{number}"))
    # The first that the sweep meets.
    store.refused_key = next(key for key in _incoming(ctx) if key.endswith(".json"))
    assert [one.item.outcome for one in sweep_incoming(ctx, TASK)] == ["stored"] * 2
    assert store.refusals == 1
    assert "sweep.skipped" in caplog.text
    store.refused_key = ""
    assert [one.item.outcome for one in sweep_incoming(ctx, TASK)] == ["stored"]
    store.away = True
    with pytest.raises(StoreAway):
        list(sweep_incoming(ctx, TASK))
    ctx.database.close()


@pytest.mark.parametrize("left", [None, b""])
def test_a_sample_without_its_sidecar_does_not_end_the_sweep(ctx: Context, left: bytes | None) -> None:
    """A power cut that cost a sidecar and left the upload is mended; what comes after it is taken in too."""
    box = SimulatedBox(ctx)
    uploads = []
    for number in range(3):
        content = picture(number)
        example = box.describe(content, part=f"plate-{number}")
        upload = box.upload(content, example)
        uploads.append((upload, content, example))
    lost, content, example = min(uploads, key=lambda one: one[0].grant_id)
    assert commit_upload(ctx, lost) is not None
    box.put(lost, content, example)
    sidecar = keys.sample_sidecar(TASK, lost.sample_id)
    ctx.store.delete(sidecar)
    if left is not None:
        ctx.store.put(sidecar, left)
    assert [one.item.outcome for one in sweep_incoming(ctx, TASK)] == ["stored"] * 3
    assert decode(HardExample, ctx.store.get(sidecar), where=sidecar).sample_id == lost.sample_id
    assert _incoming(ctx) == []


def test_half_an_upload_of_a_sample_without_sidecar_is_a_leftover(ctx: Context) -> None:
    """What cannot restore anything goes when its grant is long over."""
    box, content = SimulatedBox(ctx), picture(1)
    example = box.describe(content, part="plate-1")
    upload = box.upload(content, example)
    list(sweep_incoming(ctx, TASK))
    box.put(upload, content, example)
    ctx.store.delete(keys.incoming(TASK, upload.grant_id, upload.sample_id, "image"))
    ctx.store.delete(keys.sample_sidecar(TASK, upload.sample_id))
    assert list(sweep_incoming(ctx, TASK)) == []
    assert len(_incoming(ctx)) == 1
    assert list(sweep_incoming(ctx, TASK, now=utc_now() + LEFTOVER_AFTER + timedelta(minutes=1))) == []
    assert _incoming(ctx) == []
