"""Name what can go wrong with an update. None of these ever stops the serving model.

    AgentError
    └── OtaError
        ├── SourceAway            the line is wrong: asked again later
        │   └── SourceMissing     the server has no such file
        ├── MetadataExpired       nobody signed anew in time; the box keeps serving and reports it
        ├── MetadataRefused       the other side is wrong: signature, rollback, endless or torn metadata
        ├── TargetRefused         a file is not the one that was signed
        ├── ReleaseRefused        a signed release that this box must not run: class list, rules, agent
        ├── SelfTestFailed        the model does not compute here what it computed in the cloud
        │   └── SelfTestBroken    the child crashed or ran out of time; may work another time
        ├── SlotDamaged           an installed release is torn or altered on the box's own disk
        └── Interrupted           the agent is stopping

`final` says whether trying the same release again can help.
"""

from __future__ import annotations

from edge_agent.errors import AgentError


class OtaError(AgentError):
    """Tell that an update did not happen."""

    final = False

    remedy = "The old model keeps serving; the box tries again by itself."


class SourceAway(OtaError):
    """Tell that the release server did not answer, or broke off."""


class SourceMissing(SourceAway):
    """Tell that the release server has no such file (404, or 403 as object stores say it)."""

    def __init__(self, *, got: str, where: str, status: int) -> None:
        super().__init__(expected="a file", got=got, where=where)
        self.status = status


class MetadataExpired(OtaError):
    """Tell that signed metadata is past its life: the channel may be frozen by somebody."""


class MetadataRefused(OtaError):
    """Tell that metadata is not what its keys would sign now."""


class TargetRefused(OtaError):
    """Tell that a downloaded file has not the length and hash that were signed."""


class ReleaseRefused(OtaError):
    """Tell that a properly signed release must not run on this box."""

    final = True


class SelfTestFailed(OtaError):
    """Tell that a model gave other detections on its probe images than the cloud saw."""

    final = True


class SelfTestBroken(SelfTestFailed):
    """Tell that the self-test itself did not come to an end."""

    final = False


class SlotDamaged(OtaError):
    """Tell that an installed release cannot be used any more."""


class Interrupted(OtaError):
    """Tell that the agent is stopping, so the work was put down; it is taken up again at the next start."""
