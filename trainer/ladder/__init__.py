"""Step down when memory runs out: what to change next, in which order, and what is kept about it.

Pure but for `keeping`, which writes the rungs taken into the stage's folder, and `Descent`, which uses it.
"""

from trainer.ladder.choose import Rung, next_rung
from trainer.ladder.descent import Descent, Ladder
from trainer.ladder.expect import Expect, Outlook, expect_from_estimate
from trainer.ladder.keeping import Taken, read_taken, taken_of_record

__all__ = [
    "Descent",
    "Expect",
    "Ladder",
    "Outlook",
    "Rung",
    "Taken",
    "expect_from_estimate",
    "next_rung",
    "read_taken",
    "taken_of_record",
]
