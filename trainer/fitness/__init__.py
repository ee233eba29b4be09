"""Check a machine against what the plan was made for, before any data are copied to it.

Rules (`rules`, `needs`, `torch_build`) know nothing of how the facts were had; `probe` runs in a process of
its own, since a driver that hangs takes whoever asked it along; `check` puts them together.
"""
