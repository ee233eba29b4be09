"""Measure our training beside plain `YOLO.train()`, and kill it; `bench/train.py` is the entry.

plan         what is trained, by whom, in which order (pure)
clock        marks of one training (pure)
figures      from runs to the figures with targets (pure)
report       from figures to Markdown (pure)
settings     a job in the words of `YOLO.train()`, and what a trainer really uses
data         the same images as our index and as label files
start        a child that makes the weights everybody starts from
plain        a child that is plain `YOLO.train()`
ours         a child that is our run
evaluate     a child that measures weights, everybody's alike
contend      starts these children and measures them from outside
kills        the resume study: a run that is killed at drawn moments
crashes      twenty trainings that die for want of memory, written down before they are measured (pure)
crowds       their images, with as many boxes as they ask for
tightened    a training child whose card becomes smaller at a chosen epoch
survival     runs them: plain, ours down the ladder, and planned right from the start
"""
