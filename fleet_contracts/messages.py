"""Describe the messages of the upload dialogue. Messages are hints: losing one delays, never loses (law 1).

box                                   ingest
GrantRequest (ids, sizes)        ->
<-   Grant (presigned PUT URLs, 15 minutes)
PUT image, PUT announcement      ->   bucket `incoming/<grant>/<sha256>[.json]`
Announcement (grant, ids)        ->   (or the sweep finds it)
<-   Receipt (stored, duplicate, quarantined, forgotten)
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fleet_contracts.base import UtcTime, Value, WireDocument
from fleet_contracts.ids import DeviceId, GrantId, SampleId

MAX_ITEMS = 64
"""Samples in one grant; keeps every message under a broker's usual 256 kB."""
MAX_IMAGE_BYTES = 32 * 1024 * 1024
Outcome = Literal["stored", "duplicate", "quarantined", "forgotten"]


class GrantItem(Value):
    """Name one image a box would like to upload."""

    sample_id: SampleId
    size_bytes: Annotated[int, Field(ge=1, le=MAX_IMAGE_BYTES)]


class GrantRequest(WireDocument):
    """Ask for upload URLs; carries its own id and end of life and is asked again until answered."""

    device_id: DeviceId
    request_id: Annotated[str, Field(min_length=8, max_length=64)]
    expires_at: UtcTime
    items: Annotated[tuple[GrantItem, ...], Field(min_length=1, max_length=MAX_ITEMS)]


class GrantedUpload(Value):
    """Give the two presigned PUT URLs of one sample."""

    sample_id: SampleId
    image_url: str
    announcement_url: str


class Grant(WireDocument):
    """Answer a request; samples the cloud already has come back in `receipts` instead."""

    device_id: DeviceId
    request_id: str
    grant_id: GrantId
    expires_at: UtcTime
    uploads: tuple[GrantedUpload, ...]


class Announcement(WireDocument):
    """Say that objects of a grant were uploaded."""

    device_id: DeviceId
    grant_id: GrantId
    sample_ids: Annotated[tuple[SampleId, ...], Field(min_length=1, max_length=MAX_ITEMS)]


class ReceiptItem(Value):
    """Say what became of one sample; every outcome lets the box delete its row."""

    sample_id: SampleId
    outcome: Outcome
    detail: str = ""


class Receipt(WireDocument):
    """Allow the box to forget: the only message on which an outbox row is deleted."""

    device_id: DeviceId
    items: Annotated[tuple[ReceiptItem, ...], Field(min_length=1, max_length=MAX_ITEMS)]


class OrderRequest(WireDocument):
    """Ask for the device's desired release; sent on connect."""

    device_id: DeviceId
    channel: str


class CaptureCommand(WireDocument):
    """Ask a box for the frames around now (cloud, operator or PLC)."""

    device_id: DeviceId
    command_id: str
    frames: Annotated[int, Field(ge=1, le=100)] = 1
    expires_at: UtcTime
    asked_by: str
