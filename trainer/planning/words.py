"""Write amounts as people read them; pure.

>>> duration(42), duration(754), duration(9_000), memory(1536 * 2**20), dollars(0.0123), dollars(12)
('42 s', '13 min', '2.5 h', '1.50 GiB', '$0.012', '$12.00')
"""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Return a span of time in the unit that suits it."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def memory(count: float) -> str:
    """Return bytes as GiB, or MiB where they are few."""
    return f"{count / 2**20:.0f} MiB" if count < 2**30 else f"{count / 2**30:.2f} GiB"


def dollars(amount: float) -> str:
    """Return an amount of money; small ones keep their cents' parts."""
    return f"${amount:.3f}" if 0 < amount < 0.1 else f"${amount:.2f}"
