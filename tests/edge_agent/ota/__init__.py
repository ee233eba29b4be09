"""Test updates on the box."""
