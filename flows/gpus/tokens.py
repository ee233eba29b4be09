"""Read a provider's token where a person keeps it: a file, the environment, or a Prefect Secret block.

It is read again for each use, so that a renewed one is taken in the middle of a run, and never shown: neither
by `repr` nor by an error.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from flows.gpus.errors import TokenRefused

Token = Callable[[], str]
"""Returns the token as it is now; raises `TokenRefused` where there is none."""


@dataclass(frozen=True, slots=True)
class KeptToken:
    """Be the token kept at `file:PATH`, `env:NAME` or `block:NAME`; relative paths are the folder's."""

    place: str
    folder: Path = field(default=Path(), repr=False)

    def __call__(self) -> str:
        """Return the token.

        Raises:
            TokenRefused: nothing is kept there.
        """
        kind, _, name = self.place.partition(":")
        found = {"file": self._in_file, "env": self._in_environment, "block": _in_block}[kind](name).strip()
        if not found:
            raise TokenRefused(
                expected="a token", got="nothing", where=self.place,
                now="Put the provider's token there; no restart is needed.",
            )  # fmt: skip
        return found

    def _in_file(self, name: str) -> str:
        path = Path(name)
        path = path if path.is_absolute() else self.folder / path
        try:
            return path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""

    def _in_environment(self, name: str) -> str:
        return os.environ.get(name, "")


def _in_block(name: str) -> str:
    from prefect.blocks.system import Secret

    try:
        return str(Secret.load(name).get())
    except ValueError:  # what Prefect raises for a block that is not there
        return ""
