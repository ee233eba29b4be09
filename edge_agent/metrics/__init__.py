"""Offer what the agent counts and measures to Prometheus; read when asked, the loop pays nothing."""
