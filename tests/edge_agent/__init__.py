"""Test the box."""
