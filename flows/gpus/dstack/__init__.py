"""Rent through a dstack server (0.22.5), the engine for clouds and GPU marketplaces, over its REST API."""
