"""Name what can go wrong on the cloud side.

    FlowsError                   something on the cloud side did not work
    ├── SettingsError            the installation's settings are missing or wrong: the operator's turn
    ├── StoreError               the object store
    │   ├── StoreMissing         no object under that key
    │   ├── StoreAway            it does not answer, or answers that it cannot now: try again later
    │   └── StoreRefused         it answers no: wrong key, missing bucket, forbidden
    ├── DatabaseAway             the database does not answer or is locked for too long
    ├── UnknownTask              no such task in this installation
    ├── LabelsRefused            a label file, or too large a share of them, cannot be believed
    ├── CaptureRefused           a capture asks for a device or class that the task does not have
    └── CannotStart              a run, snapshot or champion lacks what it must start from

Every message says what was expected, what was got and where; `diagnostics()` says what to do now.
"""

from __future__ import annotations

from fleet_contracts.errors import Explained


class FlowsError(Explained):
    """Tell what did not work on the cloud side."""

    remedy = "Nothing was changed; see the log for what came before."


class SettingsError(FlowsError):
    """Tell that the installation's settings cannot be used; lists every problem at once."""


class StoreError(FlowsError):
    """Tell that the object store did not do what was asked."""


class StoreMissing(StoreError):
    """Tell that no object lies under a key."""


class StoreAway(StoreError):
    """Tell that the object store does not answer; the same call may work later."""


class StoreRefused(StoreError):
    """Tell that the object store said no; the same call will be refused again."""


class DatabaseAway(FlowsError):
    """Tell that the database does not answer; the same call may work later."""


class UnknownTask(FlowsError):
    """Tell that an installation serves no such task."""


class LabelsRefused(FlowsError):
    """Tell that labels cannot be believed, with file and line of each."""


class CaptureRefused(FlowsError):
    """Tell that a capture asks for a device or class that the task does not have."""


class CannotStart(FlowsError):
    """Tell that a snapshot, run or champion lacks what it must start from."""
