"""Name what a rented machine is told by its environment; flows sets it, `python -m trainer rented` reads it.

Of all secrets a machine gets one, the claim: a URL from which the run's ticket can be read for two hours.
"""

from __future__ import annotations

CLAIM = "WHETSTONE_CLAIM"
"""URL of the ticket; the trainer reads it, then forgets the variable."""
UNTIL = "WHETSTONE_UNTIL"
"""When the trainer ends itself and the machine with it, in ISO 8601 with a time zone."""
LEASE = "WHETSTONE_LEASE"
"""Name of the lease the machine was started under."""
POWER_OFF = "WHETSTONE_POWER_OFF"
"""Shell command that ends the machine from within, where there is one; run when the trainer has ended."""
OFFER = "WHETSTONE_OFFER"
"""What was rented, since a run may move to other cards than it was planned for: provider, number of cards,
MiB of each, MiB of the machine, and the card's name, with spaces between."""
WORK = "WHETSTONE_WORK"
"""Folder for data and runs, kept between runs; `whetstone-work` in the user's home without it."""
SIMULATED_DRIVER = "WHETSTONE_SIMULATED_DRIVER"
"""A file that describes a driver and cards which are not there (see `trainer.fitness.simulated`)."""
COMMAND = ("python", "-m", "trainer", "rented")
"""Reads the variables above, checks the machine before any data are copied, trains, and powers off."""
