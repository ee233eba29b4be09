"""Read a pair of keys from the token that holds it, a JSON document; never shown.

    >>> pair = read_pair(lambda: '{"id": "AKID42", "key": "s3cret"}', "env:KEYS", ("id", "key"))
    >>> pair, pair.hide("AKID42 signed with s3cret")
    (KeyPair(ends_at=None), '... signed with ...')

A temporary pair has a third part, and says when it ends.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from flows.gpus.errors import TokenRefused
from flows.gpus.tokens import LAUNCH_NEEDS, Token, hidden

SESSION, EXPIRATION = "security_token", "expiration"
"""Beside the pair, where it is a temporary one: its third part, and when it ends in ISO 8601."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Hold an access key: its name, which the seller's errors repeat, and its secret."""

    access_id: str = field(repr=False)
    secret: str = field(repr=False)
    session: str = field(default="", repr=False)
    ends_at: datetime | None = None

    def hide(self, text: str) -> str:
        """Return a text without any part of this key."""
        return hidden(text, self.session, self.secret, self.access_id)

    @property
    def shown(self) -> str:
        """Return as much of the key's name as tells a person which one it is."""
        return f"access key {self.access_id[:4]}..."


def read_pair(token: Token, place: str, names: tuple[str, str]) -> KeyPair:
    """Return the pair kept at `place` as it is now.

    Raises:
        TokenRefused: nothing is kept there, or no such document.
    """
    pair = _parsed(token(), names)
    if pair is None:
        raise TokenRefused(
            expected=f'JSON such as {{"{names[0]}": "...", "{names[1]}": "..."}}', got="something else",
            where=place, now="Put the access key there as such a document; no restart is needed.",
        )  # fmt: skip
    return pair


def require_lasting_pair(pair: KeyPair, place: str, now: datetime) -> None:
    """Refuse a temporary pair that ends before a launch could be carried through.

    Raises:
        TokenRefused: it ends too soon.
    """
    if pair.ends_at is not None and pair.ends_at - now < LAUNCH_NEEDS:
        raise TokenRefused(
            expected=f"a temporary key that lives for {LAUNCH_NEEDS}",
            got=f"one that ends at {pair.ends_at.isoformat(timespec='seconds')}", where=place,
            now="Take a new one from the seller and put it there; no restart is needed.",
        )  # fmt: skip


def _parsed(text: str, names: tuple[str, str]) -> KeyPair | None:
    """Return the pair, None where there is none; errors stay here, since JSON's hold the document."""
    try:
        kept: dict[str, Any] = dict(json.loads(text))
        access_id, secret = (_word(kept[name]) for name in names)
        ends = datetime.fromisoformat(kept[EXPIRATION]) if EXPIRATION in kept else None
        session = _word(kept[SESSION]) if SESSION in kept else ""
    except (ValueError, TypeError, KeyError):
        return None
    if ends is not None and ends.tzinfo is None:
        ends = ends.replace(tzinfo=timezone.utc)
    return KeyPair(access_id, secret, session, ends)


def _word(value: object) -> str:
    """Return a part of a key, which is one plain word: it goes into headers as it is."""
    if not isinstance(value, str) or not value or not value.isascii() or not value.isprintable():
        raise ValueError
    if " " in value:
        raise ValueError
    return value
