"""Gather what a plan depends on, and show plans to people; the planning itself is `trainer.planning`."""
