"""Share what adapters over a seller's own Python SDK have in common: keys, refusals, a simulator.

The SDKs are optional extras and imported when the first call is made. They are given time limits and no
retries: a launch is never asked a second time behind our back.
"""
