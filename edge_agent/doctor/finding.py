"""Say what a check found: good, worth a look, or broken, and what to do about it; pure.

>>> exit_code([Finding("ok", "disk", "20 GB free"), Finding("warn", "clock", "2 s behind")])
1
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, Protocol

Level = Literal["ok", "warn", "fail"]
EXIT_CODES: dict[Level, int] = {"ok": 0, "warn": 1, "fail": 2}
WIDTH = 100


@dataclass(frozen=True, slots=True)
class Finding:
    """Hold what a check found.

    Attributes:
        level: `ok`, `warn` (it runs, but look at it) or `fail` (it will not do its work).
        check: which one, in a word.
        found: in words.
        now: what to do, "" where there is nothing to do.
    """

    level: Level
    check: str
    found: str
    now: str = ""


class Check(Protocol):
    """Look at one thing; may take seconds, never for ever, and changes nothing on the line."""

    @property
    def name(self) -> str:
        """Return its name in a word."""

    def check(self) -> Iterator[Finding]:
        """Give what was found, at least one thing."""


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 0 when all is well, 1 with warnings, 2 with failures."""
    return max((EXIT_CODES[finding.level] for finding in findings), default=0)


def as_text(findings: Sequence[Finding]) -> str:
    """Write findings as aligned lines, what to do below each, and a last line that counts them."""
    wide = max((len(finding.check) for finding in findings), default=0)
    indent = " " * (wide + 7)
    lines: list[str] = []
    for finding in findings:
        head = f"{finding.level:<4}  {finding.check:<{wide}}  "
        # Without breaking long words, for an address or path must stay whole.
        lines += textwrap.wrap(head + finding.found.replace("\n", " "), WIDTH, subsequent_indent=indent + " ",
                               break_long_words=False, break_on_hyphens=False)  # fmt: skip
        if finding.now:
            lines += textwrap.wrap("-> " + finding.now, WIDTH, initial_indent=indent + " ",
                                   subsequent_indent=indent + "    ", break_long_words=False,
                                   break_on_hyphens=False)  # fmt: skip
    counts = {level: sum(finding.level == level for finding in findings) for level in EXIT_CODES}
    lines.append(f"{counts['ok']} good, {counts['warn']} to look at, {counts['fail']} broken")
    return "\n".join(lines) + "\n"


def as_values(findings: Sequence[Finding]) -> list[dict[str, str]]:
    """Return findings as values that JSON can hold."""
    return [asdict(finding) for finding in findings]
