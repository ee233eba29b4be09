"""Watch over the loop: a heartbeat it gives, a judgement on it, and a watchdog that acts on the judgement."""

from edge_agent.care.heartbeat import Heartbeat
from edge_agent.care.judgement import Deadlines, Judgement, judge

__all__ = ["Deadlines", "Heartbeat", "Judgement", "judge"]
