"""Describe the messages of upload and commands. Messages are hints: losing one delays, never loses (law 1).

box                                   ingest
GrantRequest (ids, sizes)        ->
<-   Grant (presigned PUT URLs, 15 minutes)
PUT image, PUT announcement      ->   bucket `incoming/<grant>/<sha256>[.json]`
Announcement (grant, ids)        ->   (or the sweep finds it)
<-   Receipt (stored, duplicate, quarantined, forgotten)

and of commands:

<-   CaptureCommand (id, what, until when), again until an answer ends it
CommandAnswer (accepted; then refused, done or expired)   ->
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from fleet_contracts.base import Count, Share, UtcTime, Value, WireDocument
from fleet_contracts.ids import DeviceId, GrantId, SampleId

MAX_ITEMS = 64
"""Samples in one grant; keeps every message under a broker's usual 256 kB."""
MAX_IMAGE_BYTES = 32 * 1024 * 1024
MAX_CAPTURE_FRAMES = 10_000
Outcome = Literal["stored", "duplicate", "quarantined", "forgotten"]
CommandId = Annotated[str, Field(min_length=1, max_length=128)]
CommandOutcome = Literal["accepted", "refused", "done", "expired"]


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
    """Ask a box for frames (cloud, operator or PLC); version 2 added everything after `asked_by`.

    Without `class_name`, `low` and `high` the next frames are asked for, whatever they show; with them the
    next frames that show such a detection. The command ends after `frames` or at `expires_at`.
    """

    schema_version: Annotated[int, Field(ge=1)] = 2
    device_id: DeviceId
    command_id: CommandId
    frames: Annotated[int, Field(ge=1, le=MAX_CAPTURE_FRAMES)] = 1
    expires_at: UtcTime
    asked_by: str
    class_name: Annotated[str, Field(max_length=64)] = ""
    """Only frames with a detection of this class, "" = of any."""
    low: Share = 0.0
    high: Share = 1.0
    """Only frames with a detection of `low` <= confidence <= `high`."""
    before: Annotated[int, Field(ge=0, le=64)] = 0
    """Also so many of the frames just before the command, as far as the box remembers them."""
    campaign: Annotated[str, Field(max_length=64)] = ""
    """What commands to several boxes have in common, "" = a single command."""

    @model_validator(mode="after")
    def _band_is_ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low} must not exceed high {self.high}")
        return self

    @property
    def asks_for_all(self) -> bool:
        """Tell whether any frame will do, whatever it shows."""
        return not self.class_name and self.low <= 0.0 and self.high >= 1.0


class CommandAnswer(WireDocument):
    """Say what became of a command; a hint, so the command is sent again until an answer ends it.

    `accepted` is told again, with the frames so far, whenever the command comes again; `refused`, `done` and
    `expired` end it. A command that could not be read is answered with the id it has, "" when it has none.
    """

    device_id: DeviceId
    command_id: Annotated[str, Field(max_length=128)]
    outcome: CommandOutcome
    detail: Annotated[str, Field(max_length=1000)] = ""
    frames_kept: Count = 0
    answered_at: UtcTime
