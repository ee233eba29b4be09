"""Test the words all sides share."""
