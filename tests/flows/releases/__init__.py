"""Test the signed release repository."""
