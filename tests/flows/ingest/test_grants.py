"""Hold grants to their promises: answered once per request, only for what is wanted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from fleet_contracts import keys, utc_now
from flows.catalog.forget import ForgetWhat, forget
from flows.context import Context
from flows.errors import UnknownTask
from flows.ingest.commit import commit_upload
from flows.ingest.grants import answer_request
from tests.flows.kit import DEVICE, TASK, SimulatedBox, picture


def test_a_grant_names_two_urls_for_each_wanted_sample(ctx: Context) -> None:
    """Every wanted sample gets an image and an announcement URL below the grant's own folder."""
    request = SimulatedBox(ctx).request([("a" * 64, 10), ("b" * 64, 20)])
    answer = answer_request(ctx, request)
    assert answer.grant is not None
    assert answer.receipts == ()
    assert (answer.grant.device_id, answer.grant.request_id) == (DEVICE, request.request_id)
    for upload in answer.grant.uploads:
        place = (TASK, answer.grant.grant_id, upload.sample_id)
        assert keys.incoming(*place, "image") + "?" in upload.image_url
        assert keys.incoming(*place, "announcement") in upload.announcement_url
    left = answer.grant.expires_at - utc_now()
    assert timedelta(minutes=14) < left <= timedelta(minutes=15)


def test_the_same_request_gets_the_same_grant(ctx: Context) -> None:
    """A request asked again (its answer was lost) does not open a second grant."""
    request = SimulatedBox(ctx).request([("a" * 64, 10)])
    first, second = answer_request(ctx, request), answer_request(ctx, request)
    assert first.grant is not None
    assert second.grant is not None
    assert first.grant.grant_id == second.grant.grant_id


def test_two_devices_with_the_same_request_id_get_two_grants(ctx: Context) -> None:
    """A request id is the device's own; it does not open another device's folder."""
    requests = [SimulatedBox(ctx, name).request([("a" * 64, 10)]) for name in ("box-1", "box-2")]
    same = [request.model_copy(update={"request_id": "same-request"}) for request in requests]
    grants = [answer_request(ctx, request).grant for request in same]
    assert grants[0] is not None
    assert grants[1] is not None
    assert grants[0].grant_id != grants[1].grant_id


def test_an_outlived_request_is_not_answered(ctx: Context) -> None:
    """A request that waited in a broker past its end is dropped; the box has asked again since."""
    request = SimulatedBox(ctx).request([("a" * 64, 10)])
    answer = answer_request(ctx, request, now=request.expires_at + timedelta(seconds=1))
    assert (answer.grant, answer.receipts) == (None, ())


def test_what_is_settled_gets_a_receipt_instead(ctx: Context) -> None:
    """Samples the cloud has, refused or forgot need no upload."""
    box = SimulatedBox(ctx)
    stored = box.send(picture(1), part="plate-1")
    bad = b"GIF89a and so on"
    refused = box.describe(bad, part="plate-2")
    commit_upload(ctx, box.upload(bad, refused))
    forgotten = "c" * 64
    forget(ctx, TASK, ForgetWhat(sample_id=forgotten), by="test", reason="asked to")
    wanted = "d" * 64
    items = [(one, 10) for one in (stored, refused.sample_id, forgotten, wanted)]
    answer = answer_request(ctx, box.request(items))
    assert [item.outcome for item in answer.receipts] == ["duplicate", "quarantined", "forgotten"]
    assert answer.grant is not None
    assert [upload.sample_id for upload in answer.grant.uploads] == [wanted]


def test_a_task_nobody_serves_gets_no_grant(ctx: Context) -> None:
    """A box with the wrong task is refused, and the message names the tasks there are."""
    request = SimulatedBox(ctx).request([("a" * 64, 10)]).model_copy(update={"task_id": "boards"})
    with pytest.raises(UnknownTask, match="plates"):
        answer_request(ctx, request)


@pytest.mark.parametrize("lost", [keys.sample_image, keys.sample_sidecar])
def test_a_sample_whose_bytes_were_lost_is_wanted_again(ctx: Context, lost: Callable[[str, str], str]) -> None:
    """The catalog alone is no proof: what the bucket has lost is asked for, not called a duplicate."""
    box = SimulatedBox(ctx)
    sample_id = box.send(picture(1), part="plate-1")
    ctx.store.delete(lost(TASK, sample_id))
    answer = answer_request(ctx, box.request([(sample_id, 10)]))
    assert answer.receipts == ()
    assert answer.grant is not None
    assert [upload.sample_id for upload in answer.grant.uploads] == [sample_id]
