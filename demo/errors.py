"""Name what can go wrong in the demo.

    DemoError               the demo cannot go on
    ├── BadAsset            a package file is missing or is not what its record says
    ├── BadDataset          a folder of real images does not have the layout
    └── StationStuck        a station did not do its part within its time

Messages say what was expected, what was got, where, and what to do now.
"""

from __future__ import annotations


class DemoError(Exception):
    """Tell that the demo cannot go on.

    Args:
        expected: what should have been there, in words.
        got: what was found instead.
        where: file, folder or station.
        now: what the person who reads this should do.
    """

    def __init__(self, *, expected: str, got: str, where: str, now: str = "") -> None:
        self.expected = expected
        self.got = got
        self.where = where
        self.now = now
        super().__init__(f"{where}: expected {expected}, got {got}" + (f". {now}" if now else ""))


class BadAsset(DemoError):
    """Tell that a package file is missing or is not what its record says."""


class BadDataset(DemoError):
    """Tell that a folder of real images does not have the layout the demo reads."""


class StationStuck(DemoError):
    """Tell that a station did not do its part within its time; its log says why."""
