"""Test the estimate of GPU memory: the trace, its scaling, the allocator's model, and what is said of it."""
