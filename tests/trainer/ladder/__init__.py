"""Test the way down when memory runs out."""
