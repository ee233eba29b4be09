"""Rent through SkyPilot: its API server 0.14.1 is spoken to over HTTP, nothing of `sky` is imported.

    answers.py    what an answer means; pure
    catalog.py    the server's price list as offers; pure
    tasks.py      the task a machine is started with; pure
    states.py     how a cluster, its launch and its job make one machine's state; pure
    client.py     HTTP
    provider.py   the adapter: `kind = "skypilot"`
    simulated_clusters.py, simulator.py
                  a server that speaks the same: `python -m flows.gpus.skypilot.simulator`

One lease is one unmanaged cluster of one machine, named by the lease's tag, with one job on it. SkyPilot's
managed jobs are not used: their controller recovers jobs by a policy of its own, which would rent anew
without a lease of ours (25 status time-outs made it restart a healthy job 24 times, #10155), and is a machine
to be paid too. Offers are chosen and lost machines replaced by `flows.gpus.tenancy` alone, and
`retry_until_up` stays off.

What SkyPilot gives to a machine: for its autostop a machine has to end itself, so SkyPilot hands it rights of
the account it was rented from: an IAM role on AWS, a service account on GCP, a managed identity on Azure, and
on the others the account's key itself, copied as a file. Left alone it copies the keys of all other clouds it
finds as well; every launch here forbids that for the clouds where SkyPilot lets it be forbidden
(`remote_identity: NO_UPLOAD`); Lambda, RunPod and some others are not among them. It has no setting to
give nothing. So nothing is rented through it until `account_on_machines = true` says that somebody knows.

Read in its source or seen on the real server: paths, bodies, request ids, error types, that a pinned instance
type escapes `max_hourly_cost`, and which keys are copied. Not seen, for want of an account: how a launched
cluster's records change over time on a real cloud, and its own teardown.
"""
