"""Test rollouts."""
