"""Test the cloud side."""
