"""Stop a snapshot when too many of its labels were refused: then something is wrong with the labelling."""

from __future__ import annotations

from collections.abc import Sequence

from flows.errors import LabelsRefused

SHOWN = 20


def require_sound(refused: Sequence[tuple[str, str]], labelled: int, max_share: float, *, where: str) -> None:
    """Check the share of refused label files.

    Args:
        refused: name and reason of each.
        labelled: samples whose labels were accepted; imported ones do not belong here.
        max_share: from 0 to 1.
        where: the task, for the error message.

    Raises:
        LabelsRefused: the share is larger; the message lists the files.
    """
    total = len(refused) + labelled
    if not refused or len(refused) <= max_share * total:
        return
    listed = "; ".join(reason or name for name, reason in refused[:SHOWN])
    more = f"; and {len(refused) - SHOWN} more" if len(refused) > SHOWN else ""
    raise LabelsRefused(
        expected=f"at most {max_share:.0%} refused label files",
        got=f"{len(refused)} of {total}: {listed}{more}",
        where=where,
        now="Correct the files (refused.csv beside them lists all), or remove them.",
    )
