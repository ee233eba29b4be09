"""Test the watch: samples, diagnoses, cures, and a real training that is held back."""
