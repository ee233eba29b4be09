"""Make a call through a seller's SDK, and say in our errors what became of it.

What an answer means is the seller's rule (`kind_of`); what is done about it is the same for all. No message
of the seller's is passed on with a key in it, and none at all where the key was refused: there the seller
repeats what we signed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

from flows.errors import SettingsError
from flows.gpus.errors import GpuError, ProviderAway, TokenRefused
from flows.gpus.sdk.keys import KeyPair

Kind = Literal["token", "away", "refused", "gone", "conflict"]
"""What an answer says: the key is not taken, ask later, no, there is no such job, not in the job's state."""
CONNECT_SECONDS, READ_SECONDS = 10.0, 30.0
MOST_LETTERS = 300
"""How much of a seller's message is passed on."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Hold what a seller answered instead of a result; `status` 0 where there was no answer."""

    status: int
    code: str
    message: str = ""


class CallRefused(ProviderAway):
    """Tell that the seller answered no; where nobody makes more of it, the call is made again later."""

    def __init__(self, kind: Kind, *, got: str, where: str) -> None:
        self.kind = kind
        super().__init__(expected="the call to be carried out", got=got, where=where)


@dataclass(frozen=True, slots=True)
class Seller:
    """Say how a seller's SDK fails: the errors it raises, what is in them, and what that means."""

    name: str
    place: str
    """Where its key is kept."""
    renew: str
    """What a person does whose key was refused."""
    errors: tuple[type[Exception], ...]
    read: Callable[[Exception], Refusal]
    kind_of: Callable[[Refusal], Kind]

    def ask(self, what: str, pair: KeyPair, call: Callable[[], T]) -> T:
        """Make a call.

        Raises:
            TokenRefused: the key is not taken, or may not do this.
            CallRefused: the seller said no.
            ProviderAway: there was no answer, or none that can be read.
        """
        try:
            return call()
        except self.errors as error:
            refusal = self.read(error)
        # Raised out here, since an SDK's errors hold the request with its headers.
        raise self._explain(what, pair, refusal)

    def _explain(self, what: str, pair: KeyPair, refusal: Refusal) -> GpuError:
        where, kind = f"{what} of {self.name}", self.kind_of(refusal)
        code = pair.hide(refusal.code)
        if kind == "token":
            return TokenRefused(
                expected="a key that may do this", got=f"{code} (HTTP {refusal.status})",
                where=f"{self.place}, {where}", now=self.renew,
            )  # fmt: skip
        told = pair.hide(refusal.message)[:MOST_LETTERS]
        got = f"{code}: {told}" if told else code
        if kind == "away":
            return ProviderAway(expected="an answer", got=got, where=where, now="The call is made again.")
        return CallRefused(kind, got=got, where=where)


def require_package(module: str, extra: str, name: str) -> None:
    """Refuse to make a provider whose SDK is not installed.

    Raises:
        SettingsError: it is not; says how to install it.
    """
    if importlib.util.find_spec(module) is None:
        raise SettingsError(
            expected=f"the package {module}", got="none", where=f"whetstone.toml: providers.{name}",
            now=f"Install it: pip install 'whetstone-edge[cloud,{extra}]'.",
        )  # fmt: skip
