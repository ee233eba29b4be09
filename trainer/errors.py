"""Name what can go wrong in a training run.

    TrainerError                  a run cannot go on
    ├── DatasetRefused            the data on disk or in the manifest is not what was promised
    ├── TicketRefused             the ticket, plan or manifest disagree with each other
    ├── TransferFailed            an object could not be fetched or stored after all attempts
    │   └── WrongContent          an object arrived with another hash or size
    ├── BackendFailed             the child process gave up; `detail` holds the end of its log
    │   └── StartRefused          the start weights do not fit the class list or are not a model
    └── GateMisused               the gate was asked to judge with no rules or no evidence

Every message says what was expected, what was got and where; `diagnostics()` says what to do now.
"""

from __future__ import annotations

from fleet_contracts.errors import Explained


class TrainerError(Explained, RuntimeError):
    """Tell that a run cannot go on."""

    remedy = "Start the same run again; it continues from its last checkpoint."


class DatasetRefused(TrainerError):
    """Tell that images or labels are missing, unreadable or outside the class list."""


class TicketRefused(TrainerError):
    """Tell that ticket, plan and manifest do not belong together."""


class TransferFailed(TrainerError):
    """Tell that an object could not be fetched or stored after all attempts."""


class WrongContent(TransferFailed):
    """Tell that an object's bytes do not have the promised hash or size."""


class BackendFailed(TrainerError):
    """Tell that the training child gave up.

    `exit_code` is negative when a signal ended it; `resumable` says whether another start may help.
    """

    exit_code: int = 1
    resumable: bool = True


class StartRefused(BackendFailed):
    """Tell that the start weights do not fit: no model, or a class list that is no prefix (law 9)."""

    resumable = False


class GateMisused(TrainerError):
    """Tell that a judgement was asked for without rules or without evidence."""
