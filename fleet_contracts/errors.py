"""Name what can be wrong with a document, key or topic.

    ContractError                 a document breaks the contract
    ├── MalformedDocument         not JSON, or fields missing, mistyped or out of range
    ├── ForeignDocument           well formed, but for another task or device
    ├── ClassListConflict         two class lists that are not prefix and continuation
    └── BadAddress                a bucket key or MQTT topic that does not parse

Every message says what was expected, what was got and where; `diagnostics()` says what to do now.
"""

from __future__ import annotations


class Explained(Exception):
    """Say what was expected, what was got and where; the base of every room's errors.

    Args:
        expected: what was wanted, in words.
        got: what was found, shortened to something a person can read.
        where: file, key, topic, address or step.
        now: what the person who reads this should do.
    """

    remedy = ""
    """What to do where the error itself does not say."""

    def __init__(self, *, expected: str, got: str, where: str, now: str = "") -> None:
        self.expected = expected
        self.got = got
        self.where = where
        self.now = now
        super().__init__(f"{where}: expected {expected}, got {got}" + (f". {now}" if now else ""))

    def diagnostics(self) -> str:
        """Say what to do now."""
        return self.now or self.remedy


class ContractError(Explained, ValueError):
    """Tell that a document, key or topic breaks the contract all sides share."""

    remedy = "Fix the sender; the document was not used and nothing was changed."


class MalformedDocument(ContractError):
    """Tell that bytes could not be read as the document they should be."""


class ForeignDocument(ContractError):
    """Tell that a valid document speaks of another task or device than the place it was found in."""


class ClassListConflict(ContractError):
    """Tell that two class lists disagree, so the same id would mean different things."""


class BadAddress(ContractError):
    """Tell that a bucket key or MQTT topic is not one of ours."""
