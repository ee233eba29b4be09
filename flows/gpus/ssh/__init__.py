"""Rent machines by SSH: any host with a shell, Python and perhaps Docker."""
