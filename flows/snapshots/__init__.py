"""Cut snapshots: immutable, content-addressed training data with splits that do not leak."""
