"""Say which ways to rent a run leaves alone for what its own leases of them came to; pure.

Leases outlive the process that follows a run, so no crash makes it forget:

    refused a launch         left alone for minutes, and no machine at work is ever given up for it
    its machine was unfit    left alone for a day
    its machine ended, paid  on demand alone, from the second one on: left alone for minutes, each time for
                             twice as long; it is no market that takes such a machine away
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from fleet_contracts.training import Lease
from flows.gpus.leases import LAUNCH_REFUSED, MACHINE_ENDED
from flows.gpus.outlook import name_of

REFUSED_FOR = timedelta(minutes=5)
"""How long an offer that refused a launch is left alone."""
UNFIT_FOR = timedelta(hours=24)
"""How long one is left alone whose machine was not what it was sold as."""
UNFIT = "its machine is unfit"
"""How the reason begins of a lease that ended for that."""
_MOST_DOUBLINGS = 5


def left_alone(leases: Sequence[Lease], now: datetime) -> frozenset[str]:
    """Return the ways that are not to be asked now; `leases` are the run's own, oldest first."""
    found = {
        _name(lease)
        for lease in leases
        if (lease.end_reason.startswith(LAUNCH_REFUSED) and _is_within(lease, REFUSED_FOR, now))
        or (lease.end_reason.startswith(UNFIT) and _is_within(lease, UNFIT_FOR, now))
    }
    died = [lease for lease in leases if _died_unsold(lease) and _is_within(lease, UNFIT_FOR, now)]
    times = Counter(map(_name, died))
    for lease in died:
        often = times[_name(lease)] - 2
        if often >= 0 and _is_within(lease, REFUSED_FOR * 2 ** min(often, _MOST_DOUBLINGS), now):
            found.add(_name(lease))
    return frozenset(found)


def doubtful(leases: Iterable[Lease]) -> frozenset[str]:
    """Return the ways that ever refused the run a launch."""
    return frozenset(_name(lease) for lease in leases if lease.end_reason.startswith(LAUNCH_REFUSED))


def _died_unsold(lease: Lease) -> bool:
    return lease.end_reason == MACHINE_ENDED and not lease.spot and lease.price != 0


def _is_within(lease: Lease, time: timedelta, now: datetime) -> bool:
    return lease.ended_at is not None and now - lease.ended_at < time


def _name(lease: Lease) -> str:
    return name_of(lease.offer, spot=lease.spot)
