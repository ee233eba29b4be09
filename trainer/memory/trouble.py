"""Describe how memory ran out: which, at what moment of training, and what was seen of it."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.memory.port import Kind

SHARED_MEMORY = "shared memory"
KILLED = "killed by the kernel"
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Trouble:
    """Hold one end of memory.

    `moment` is what training was doing (`start`, `loader`, `forward`, `loss`, `backward`, `optimizer`, `ema`,
    `validation`, `checkpoint`, `export`, `watch` when it was only near); `epoch` counts from 1, `step` the
    batches of that epoch. `seen_bytes` is what was taken, `asked_bytes` what was asked for on top; 0 where
    nobody knows. `cause` narrows the kind down, such as shared memory; `error` is the type that told.
    """

    kind: Kind
    moment: str = ""
    epoch: int = 0
    step: int = 0
    seen_bytes: int = 0
    limit_bytes: int = 0
    asked_bytes: int = 0
    cause: str = ""
    error: str = ""
    message: str = ""

    @property
    def needed_bytes(self) -> int:
        """Return the least that would have been needed to get over this moment; 0 when nobody knows."""
        return self.seen_bytes + self.asked_bytes

    def in_words(self) -> str:
        """Say it as a person would."""
        memory = "the card's memory" if self.kind == "device" else (self.cause or "this machine's memory")
        if self.cause == KILLED:
            memory = "this machine's memory (the kernel killed the child)"
        where = f"in {self.moment or 'training'}, epoch {self.epoch}, step {self.step}"
        if self.moment == "watch":
            where = f"in epoch {self.epoch}"
        elif not self.epoch:
            where = "before the first epoch"
        seen = f"{self.seen_bytes / _MIB:.0f} MiB taken" if self.seen_bytes else "an unknown amount taken"
        limit = f" of {self.limit_bytes / _MIB:.0f} MiB" if self.limit_bytes else ""
        asked = f", {self.asked_bytes / _MIB:.1f} MiB more asked for" if self.asked_bytes else ""
        happened = "is near its end" if self.moment == "watch" else "ran out"
        return f"{memory} {happened} {where}: {seen}{limit}{asked}"
