"""Run one training: dataset on disk, plan, child process, export, validation and gate."""
