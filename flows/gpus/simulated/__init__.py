"""Be a GPU cloud for trying and showing: its machines are processes of this host, in wall time, at a price.

    sale.py        what is offered now: regions, prices, spot capacity that is gone for a while; pure
    preemption.py  when a spot machine is taken away: after so many epochs, or in the middle of one
    cloud.py       the cloud's own books on disk, the same for every process that asks
    host.py        one machine's host: boots it, ends it at its deadline, takes it away, pulls its plug
    processes.py   starts hosts, and gives a machine what a rented one would have: an image, a claim, no more
    provider.py    the cloud behind the port

Money is simulated. What a machine does is real: it has the ticket and a disk of its own that goes with it, so
that a run goes on elsewhere from nothing but what lies in the bucket.
"""
