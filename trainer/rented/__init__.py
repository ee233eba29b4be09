"""Be the trainer on a rented machine: `python -m trainer rented`, told what to do by its environment.

    entry     forgets the claim: the same process begins anew without it in its environment
    guard     starts the trainer, watches the lease's end by a clock nobody can set, and powers off
    work      fetches the ticket, checks the machine, trains; takes the guard's place where that was killed
    farewell  sends the end of the log

The guard speaks to no network and imports no torch: what hangs there cannot hold up the machine's end.
"""
