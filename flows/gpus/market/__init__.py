"""Simulate a market of GPUs: prices that move, machines that are taken away, time that costs nothing.

The climate (discounts, times to preemption, outages) was fixed before any policy was tuned on it; see
`climate`. `world` draws it out for one seed, `play` lets a policy rent in it minute by minute, `optimum`
tells what somebody who knew the future would have paid, and `rivals` are the policies ours stands beside.
"""
