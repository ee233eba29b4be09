"""Bring signed releases to the box: fetch, verify, self-test, swap, confirm, roll back.

The box trusts signatures alone (law 7) and the line never waits (law 3): everything here runs in one
thread of its own and in a child process, and the old model serves until the new one has proven itself.
"""
