"""Check the clock: a sane year, a time server, and no skew against servers the box talks to."""

from __future__ import annotations

from collections.abc import Iterator

import urllib3

from edge_agent.care.clock import EARLIEST, SKEW_LIMIT_S, is_synchronised, skew_against
from edge_agent.doctor.context import Patient
from edge_agent.doctor.finding import Finding
from fleet_contracts.base import utc_now

NOTEWORTHY_S = 5.0
SET_IT = "Set up a time server (timedatectl set-ntp true, or chrony with the plant's server)."


class ClockCheck:
    """Compare the clock with reason and with the release server."""

    name = "clock"

    def __init__(self, patient: Patient) -> None:
        self._releases = patient.config.releases

    def check(self) -> Iterator[Finding]:
        """Give the year, the time server, and the skew."""
        now = utc_now()
        if now < EARLIEST:
            yield Finding(
                "fail",
                self.name,
                f"the clock says {now:%Y-%m-%d}",
                f"{SET_IT} A Jetson without a battery starts in the past: fit one.",
            )
        if is_synchronised() is False:
            yield Finding("warn", self.name, "no time server disciplines the clock", SET_IT)
        try:
            skew = skew_against(self._releases.url, self._releases.ca_file)
        except urllib3.exceptions.HTTPError:
            skew = None
        yield judge_skew(skew, f"{now:%Y-%m-%d %H:%M:%S} UTC")


def judge_skew(skew: float | None, now: str) -> Finding:
    """Judge by how many seconds the clock is ahead of a server's; None = no server said."""
    if skew is None:
        return Finding("ok", "clock", f"{now}; the release server did not say what time it has")
    words = f"{now}, {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the release server"
    if abs(skew) > SKEW_LIMIT_S:
        return Finding("fail", "clock", words, f"{SET_IT} Signatures and upload addresses fail by then.")
    if abs(skew) > NOTEWORTHY_S:
        return Finding("warn", "clock", words, SET_IT)
    return Finding("ok", "clock", words)
