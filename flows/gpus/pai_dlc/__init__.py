"""Rent training jobs of Alibaba Cloud PAI-DLC through its own SDK, the extra `pai`.

No account was at hand: everything was run against `simulator` alone. The SDK's own models say that
`JobMaxRunningTimeMinutes` is the longest a job runs, that spot limits are in yuan a minute, which states a
job has, and that the list shows the last seven days unless told otherwise; the seller's pages, that names
need not be unique and that a preempted job fails and is not run again.

Not verified: whether waiting in the queue counts as running time, how late the list is, the codes of refused
launches, and how `NonProtectSpotDiscount` is meant (the neighbouring service EAS says of its field of that
name that 0.1 is a tenth of the price, and so it is read).
"""
