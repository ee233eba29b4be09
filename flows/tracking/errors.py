"""Name what can go wrong when runs are shown or mirrored; all of it are `FlowsError`s."""

from __future__ import annotations

from flows.errors import FlowsError


class UnknownRun(FlowsError):
    """Tell that no run, or more than one, goes by a name."""


class NothingToDraw(FlowsError):
    """Tell that the runs asked for have measured nothing yet."""


class TrackingAway(FlowsError):
    """Tell that the tracking store does not take what it is given."""

    remedy = "Nothing is lost: the record lies in the bucket. Write it again with 'whetstone runs track'."
