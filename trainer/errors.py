"""Name what can go wrong in a training run.

    TrainerError                  a run cannot go on
    ├── DatasetRefused            the data on disk or in the manifest is not what was promised
    ├── TicketRefused             the ticket, plan or manifest disagree with each other
    ├── OrdersRefused             a rented machine was not told what it needs to know
    ├── ClaimEnded                the URL a rented machine was started with gives no ticket any more
    ├── MachineUnfit              the machine is not what the plan was made for; `reasons` says why
    ├── TransferFailed            an object could not be fetched or stored after all attempts
    │   └── WrongContent          an object arrived with another hash or size
    ├── BackendFailed             the child process gave up; `detail` holds the end of its log
    │   ├── StartRefused          the start weights do not fit the class list or are not a model
    │   ├── CheckpointLost        no checkpoint can be continued where nothing else holds what was trained
    │   ├── StoodStill            a training made no step for very long and was ended
    │   ├── MemoryExhausted       memory ran out, on the card or on the machine; `trouble` says how
    │   └── LadderExhausted       memory ran out and nothing was left to do about it
    ├── MemoryNear                said in the child: memory will run out soon, so step down now
    └── GateMisused               the gate was asked to judge with no rules or no evidence

Every message says what was expected, what was got and where; `diagnostics()` says what to do now.
"""

from __future__ import annotations

from fleet_contracts.errors import Explained
from trainer.memory.port import Kind
from trainer.memory.trouble import Trouble


class TrainerError(Explained, RuntimeError):
    """Tell that a run cannot go on."""

    remedy = "Start the same run again; it continues from its last checkpoint."


class DatasetRefused(TrainerError):
    """Tell that images or labels are missing, unreadable or outside the class list."""

    resumable = False


class TicketRefused(TrainerError):
    """Tell that ticket, plan and manifest do not belong together."""


class OrdersRefused(TrainerError):
    """Tell that the environment of a rented machine lacks what it must know, or says it wrongly."""

    remedy = "Start the machine with what `flows.gpus.starting` makes; nothing was trained."


class ClaimEnded(TrainerError):
    """Tell that a claim gives no ticket: it lives for two hours, and this machine came up later."""

    remedy = "The machine ends itself; the flow rents another one, with a fresh claim."


class MachineUnfit(TrainerError):
    """Tell that this machine cannot do the run as planned, though another one may; nothing was copied."""

    remedy = "Nothing to do: the run moves to the next offer and leaves this one alone for a while."
    reasons: tuple[str, ...] = ()


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


class CheckpointLost(BackendFailed):
    """Tell that no checkpoint of a stage can be continued, and that its own start is not at hand."""

    resumable = False


class LossNotFinite(BackendFailed):
    """Tell that the loss stopped being a number again after every rollback; another start would not help."""

    resumable = False
    remedy = "Look at the images named; a lower learning rate in the recipe, or precision fp32, may help."


class StoodStill(BackendFailed):
    """Tell that a training made no step for so long that it was ended; another start may get further."""

    remedy = "Another start goes on from the last checkpoint; the log's end says what each thread waited for."


class MemoryExhausted(BackendFailed):
    """Tell that memory ran out in the child; the ladder decides what to change before the next start."""

    remedy = "Start it with a smaller batch or image size, or on a machine with more memory."
    trouble: Trouble


class LadderExhausted(BackendFailed):
    """Tell that memory ran out although everything that the plan allows had been changed."""

    remedy = "Take a card or machine with more memory, or let the plan's memory policy go further down."
    resumable = False


class MemoryNear(TrainerError):
    """Ask for a rung before memory runs out; raised in the child, between two epochs.

    Args:
        kind: `device` or `host`.
        seen_bytes: what is taken.
        limit_bytes: what may be taken.
    """

    def __init__(self, kind: Kind, seen_bytes: int, limit_bytes: int) -> None:
        self.kind, self.seen_bytes, self.limit_bytes = kind, seen_bytes, limit_bytes
        got = f"{seen_bytes} of {limit_bytes} bytes taken"
        super().__init__(expected="memory to spare", got=got, where=f"{kind} memory")


class GateMisused(TrainerError):
    """Tell that a judgement was asked for without rules or without evidence."""
