"""Read a provider's token where a person keeps it: a file, the environment, or a Prefect Secret block.

It is read again for each use, so that a renewed one is taken in the middle of a run, and never shown: neither
by `repr` nor by an error. One that says itself when it ends is refused before a launch it would not outlast.

    >>> KeptToken("env:AUTODL_TOKEN")
    KeptToken(place='env:AUTODL_TOKEN')
    >>> ends_at("no-such-token") is None
    True
"""

from __future__ import annotations

import base64
import json
import logging
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

from flows.gpus.errors import ProviderAway, TokenRefused

log = logging.getLogger("whetstone.gpus")

Token = Callable[[], str]
"""Returns the token as it is now; raises `TokenRefused` where there is none."""
LAUNCH_NEEDS = timedelta(minutes=15)
"""How long a token must still live for a launch: longer than any launch call takes, as the reaper counts."""
MOST_BYTES = 65536
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_warned: set[Path] = set()
"""Files whose rights were complained of: once a process, not with every call."""


@dataclass(frozen=True, slots=True)
class KeptToken:
    """Be the token kept at `file:PATH`, `env:NAME` or `block:NAME`; relative paths are the folder's."""

    place: str
    folder: Path = field(default=Path(), repr=False)

    def __call__(self) -> str:
        """Return the token.

        Raises:
            TokenRefused: nothing is kept there, or something that is no token.
            ProviderAway: the place itself does not answer.
        """
        kind, _, name = self.place.partition(":")
        found = {"file": self._in_file, "env": self._in_environment, "block": self._in_block}[kind](
            name
        ).strip()
        if not found:
            raise TokenRefused(
                expected="a token", got="nothing", where=self.place,
                now="Put the provider's token there; no restart is needed.",
            )  # fmt: skip
        return found

    def _in_file(self, name: str) -> str:
        path = Path(name).expanduser()
        path = path if path.is_absolute() else self.folder / path
        try:
            with path.open("rb") as file:
                _complain(path, os.fstat(file.fileno()).st_mode)
                return file.read(MOST_BYTES).decode("utf-8")
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError) as error:
            raise TokenRefused(
                expected="a file with a token",
                got=type(error).__name__,
                where=self.place,
                now="Let it be a text file that this user may read.",
            ) from None  # fmt: skip - a decoding error carries the bytes it could not read

    def _in_environment(self, name: str) -> str:
        return os.environ.get(name, "")

    def _in_block(self, name: str) -> str:
        from prefect.blocks.system import Secret

        try:
            with _prefect_of(self.folder):
                return str(Secret.load(name, _sync=True).get())
        except ValueError:  # what Prefect raises for a block that is not there
            return ""
        except Exception as error:  # noqa: BLE001 - its client raises many kinds, and the block may be good
            raise ProviderAway(
                expected="an answer of Prefect's", got=type(error).__name__, where=self.place,
                now="It is asked again; see that PREFECT_API_URL answers.",
            ) from None  # fmt: skip


@contextmanager
def _prefect_of(folder: Path) -> Iterator[None]:
    """Ask the installation's own Prefect where the environment names no other: it would start one."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.settings import FILE_NAME, load_settings

    if PREFECT_API_URL.value() or not (folder / FILE_NAME).is_file():
        yield
        return
    with temporary_settings({PREFECT_API_URL: load_settings(folder).prefect.api_url}):
        yield


def require_header(token: str, place: str) -> str:
    """Return a token that can be sent in a header as it is.

    Raises:
        TokenRefused: it has spaces or letters no header takes; what was pasted is more than the token.
    """
    if not token.isascii() or not token.isprintable() or " " in token or token[0] in "\"'":
        raise TokenRefused(
            expected="one word of plain letters", got="more than one word, or other letters", where=place,
            now="Put the token alone there, without 'Bearer' and without quotes.",
        )  # fmt: skip
    return token


def ends_at(token: str) -> datetime | None:
    """Return when a token ends, where it is a JWT that says so; None for any other. Nothing is verified."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return datetime.fromtimestamp(float(claims["exp"]), tz=timezone.utc)
    except (ValueError, KeyError, TypeError, OverflowError, OSError):
        return None


def require_lasting(
    token: str, place: str, now: datetime, needs: timedelta = LAUNCH_NEEDS
) -> datetime | None:
    """Return when a token ends, None where it does not say; refuse one that ends within `needs`.

    Raises:
        TokenRefused: it has ended, or ends before a launch could be carried through.
    """
    ends = ends_at(token)
    if ends is not None and ends - now < needs:
        raise TokenRefused(
            expected=f"a token that lives for {needs}", got=_age(ends, now), where=place,
            now="Renew it at the provider and put the new one there; no restart is needed.",
        )  # fmt: skip
    return ends


def hidden(text: str, *secrets: str) -> str:
    """Return a text without the secrets that may stand in it.

    >>> hidden("no such token: s3cret", "s3cret")
    'no such token: ...'
    """
    for secret in filter(None, secrets):
        text = text.replace(secret, "...")
    return text


def _age(ends: datetime, now: datetime) -> str:
    when = ends.isoformat(timespec="seconds")
    return f"one that ended at {when}" if ends <= now else f"one that ends at {when}"


def _complain(path: Path, mode: int) -> None:
    """Warn once of a token that others may read; mounted secrets are so by design, so it is not refused."""
    if mode & _OTHERS and path not in _warned:
        _warned.add(path)
        log.warning("gpus.token_readable_by_others file=%s mode=%o now=chmod 600", path, stat.S_IMODE(mode))
