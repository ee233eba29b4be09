"""Name what AutoDL answers beside what every provider may.

ProviderAway
├── CallRefused     it answers no; what that means depends on what was asked
└── NoSuchRecord    it knows nothing by that name

Both are kinds of `ProviderAway`: where nobody makes more of them, the call is made again later.
"""

from __future__ import annotations

from flows.gpus.errors import ProviderAway


class CallRefused(ProviderAway):
    """Tell that AutoDL answered no, with its code and message."""


class NoSuchRecord(ProviderAway):
    """Tell that AutoDL knows no instance or deployment by that name."""
