"""Name what can go wrong on the box.

    AgentError                    something on the box cannot go on as asked
    ├── ConfigError               the configuration file is missing, unreadable or wrong
    │   └── WrongConfig           keys of it are wrong; holds every mistake
    ├── SourceError               a camera, folder or video that cannot be used at all
    ├── FrameUnreadable           one frame that cannot be decoded; the loop goes on
    ├── DiskFull                  no room for an example; it is counted as lost, the loop goes on
    ├── OutboxError               the outbox cannot be opened or written
    ├── OutputAway                an output's device does not answer; connected again later
    │   └── OutputRefused         it answers, but not for this address
    ├── LinkAway                  the broker cannot be reached now; asked again later
    └── UploadError               an upload did not work
        ├── StoreAway             the object store cannot be reached now; asked again later
        └── UploadRefused         the store refused the URL (expired, forged); a new grant is needed

Every message says what was expected, what was got and where; `diagnostics()` says what to do now.
"""

from __future__ import annotations

from collections.abc import Sequence

from fleet_contracts.errors import Explained


class AgentError(Explained):
    """Tell that something on the box cannot go on as asked."""

    remedy = "Nothing was lost; the agent tries again by itself."


class ConfigError(AgentError):
    """Tell that the configuration cannot be used; the message lists every wrong key."""


class WrongConfig(ConfigError):
    """Tell every mistake of a configuration at once, each in a line of its own.

    Args:
        mistakes: what `str` writes as `key: expected, got`.
        where: the file.
    """

    def __init__(self, mistakes: Sequence[object], *, where: str) -> None:
        self.mistakes = tuple(mistakes)
        count = "1 mistake" if len(self.mistakes) == 1 else f"{len(self.mistakes)} mistakes"
        super().__init__(
            expected="the agent's configuration",
            got=":\n".join((count, "\n".join(f"  {mistake}" for mistake in self.mistakes))) + "\n",
            where=where,
            now="Correct these keys; nothing was started.",
        )

    def __str__(self) -> str:
        """Write the list with a line of its own for what to do."""
        return f"{self.where}: {self.got}{self.now}"


class SourceError(AgentError):
    """Tell that a camera, folder or video cannot be used at all."""


class FrameUnreadable(AgentError):
    """Tell that one frame could not be decoded."""


class DiskFull(AgentError):
    """Tell that an example could not be kept because the disk or the quota is full."""


class OutboxError(AgentError):
    """Tell that the outbox could not be opened or written."""


class OutputAway(AgentError):
    """Tell that an output's device did not answer in time, or refused; it is connected again later."""


class OutputRefused(OutputAway):
    """Tell that an output's device answers, but refuses this address, or this value at it."""


class LinkAway(AgentError):
    """Tell that the broker could not be reached now."""


class UploadError(AgentError):
    """Tell that an upload did not work."""


class StoreAway(UploadError):
    """Tell that the object store could not be reached, or answered that it is overloaded."""


class UploadRefused(UploadError):
    """Tell that the store refused this URL; only a new grant helps."""
