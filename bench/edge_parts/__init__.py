"""Measure the box's loop beside the bare engine and its peers; `bench/edge.py` is the entry.

intervals    medians, shares and their 95 % intervals (pure)
plan         what is measured, and how long it takes (pure)
figures      from raw blocks to the figures with targets (pure)
report       from figures to Markdown (pure)
weights      a child that makes weights, frames and the plain float export
exports      keeps what was made
machine      what the machine is, and who else uses it
children     starts one child per contender and speaks with it
protocol     the child's side of that
contenders   bare sessions and ultralytics, in a child
line         our loop, in a child
other_core   what the second core does meanwhile: uploads, a release's download, its self-test and load
servers      the store and the release server these speak with, in a child
roboflow     Roboflow's inference, in a child of its own installation
rounds       blocks in turn
"""
