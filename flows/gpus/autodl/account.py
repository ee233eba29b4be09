"""Ask AutoDL how the account stands, and hold how patiently its machines are waited for."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from fleet_contracts import utc_now
from flows.gpus.autodl.client import AutodlClient
from flows.gpus.autodl.money import dollars_of, milli_of, text_of
from flows.gpus.base import Standing
from flows.gpus.errors import LaunchRefused, ProviderAway
from flows.gpus.settings import AutodlElasticSection, AutodlProSection
from flows.gpus.tokens import require_lasting
from flows.settings import FILE_NAME

BALANCE = "/api/v1/dev/wallet/balance"
SOURCE = f"prices written in {FILE_NAME}"


@dataclass(frozen=True, slots=True)
class Pace:
    """Say how patiently AutoDL is waited for.

    `settles` is how late its lists may show a machine: nobody documents it, so it is ample. `patience` is
    how long a machine may take to stop and to leave the list within one call, `placing` how long a deployment
    may look for a GPU; in seconds, looked at every `poll`.
    """

    settles: timedelta = timedelta(minutes=2)
    patience: float = 30.0
    placing: float = 180.0
    poll: float = 1.0
    now: Callable[[], datetime] = field(default=utc_now, repr=False)

    def wait(self, holds: Callable[[], bool], seconds: float) -> bool:
        """Return whether a condition came true in time; it is looked at once more when time is over."""
        deadline = time.monotonic() + seconds
        while True:
            is_last = time.monotonic() >= deadline
            if holds():
                return True
            if is_last:
                return False
            time.sleep(self.poll)


def standing_of(
    client: AutodlClient, section: AutodlProSection | AutodlElasticSection, now: datetime
) -> Standing:
    """Return token and balance, vouchers left out: it is not known what they pay for.

    Raises:
        TokenRefused: the token is not taken, or ends too soon.
        ProviderAway: nobody answers.
    """
    ends = require_lasting(client.token(), client.token.place, now)
    wallet = client.send("POST", BALANCE, {})
    try:
        free = int(wallet["assets"]) - int(wallet.get("blocked_asset") or 0)
    except (TypeError, KeyError, ValueError, OverflowError) as error:
        raise ProviderAway(
            expected="assets in thousandths of a yuan", got=type(error).__name__, where=BALANCE
        ) from error
    return Standing("the account of the token", ends, dollars_of(free, section.money))


def require_balance(standing: Standing, section: AutodlProSection | AutodlElasticSection, where: str) -> None:
    """Refuse a launch on an account that holds too little for it.

    Raises:
        LaunchRefused: the balance is below the section's least.
    """
    balance = standing.balance or 0.0
    if balance < section.least_balance:
        held = text_of(milli_of(balance, section.money))
        raise LaunchRefused(
            expected=f"at least ${section.least_balance:.2f} on the account", got=f"${balance:.2f} ({held})",
            where=where, now="Top the account up, or lower least_balance.",
        )  # fmt: skip
