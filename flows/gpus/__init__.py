"""Rent machines to train on: one port, its adapters, leases recorded before any launch, and a reaper."""
