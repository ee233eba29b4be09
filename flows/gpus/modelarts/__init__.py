"""Rent training jobs of Huawei Cloud ModelArts through its own SDK, the extra `modelarts`.

No account was at hand: everything was run against `simulator` alone. The SDK's own models say that
`spec.auto_stop` is how long a job runs, in whole hours, which phases a job has, and that images come from
SWR; the published error codes, that a job's name is unique (ModelArts.2751), what a job that is not there is
answered with (2775), and that a flavour may be refused (2763, 2781).

Not verified: from when `auto_stop` counts and that it is kept for every flavour, how late the list is,
whether names are unique on every site of the seller (nothing rests on it), and spot: no field of the SDK's
names a price that moves, so none is offered. No price is told at all.
"""
