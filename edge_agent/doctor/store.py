"""Check the object store's address: any answer will do, since a box has no key to it."""

from __future__ import annotations

from collections.abc import Iterator

import urllib3

from edge_agent.care.clock import SKEW_LIMIT_S, skew_against
from edge_agent.care.store_address import StoreAddress
from edge_agent.doctor.context import Patient
from edge_agent.doctor.finding import Finding

NAME = "store"


class StoreCheck:
    """Ask the store for nothing."""

    name = NAME

    def __init__(self, patient: Patient) -> None:
        self._config = patient.config

    def check(self) -> Iterator[Finding]:
        """Give whether it answers, and whether its clock agrees."""
        url = self._config.doctor.store_url or StoreAddress(self._config.data_dir).read()
        if not url:
            now = "Set doctor.store_url to check it now; the agent learns it with its first upload."
            yield Finding("ok", NAME, "the store's address is not known yet", now)
            return
        try:
            skew = skew_against(url, self._config.upload.ca_file)
        except urllib3.exceptions.HTTPError as error:
            words = f"{url} does not answer: {type(error).__name__}"
            now = "The box reaches the store by the address the grants carry: look at routes, firewall, name."
            yield Finding("fail", NAME, words, now)
            return
        if skew is not None and abs(skew) > SKEW_LIMIT_S:
            words = f"{url} answers; its clock differs from the box's by {abs(skew):.0f} s"
            yield Finding("fail", NAME, words, "Set the clock: upload addresses are signed for a time.")
            return
        yield Finding("ok", NAME, f"{url} answers")
