"""Name the exit statuses by which a trainer says what came of a run."""

from __future__ import annotations

DONE = 0
FAILED = 1
"""Failed for good, and reported to the store."""
AGAIN = 2
"""Worth another start, here or elsewhere."""
