"""Hold the sweep to law 1: what no message announced is found, and leftovers go."""

from __future__ import annotations

from datetime import timedelta

from fleet_contracts import keys, utc_now
from flows.context import Context
from flows.ingest.sweep import LEFTOVER_AFTER, sweep_incoming
from tests.flows.kit import DEVICE, TASK, SimulatedBox, picture


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
