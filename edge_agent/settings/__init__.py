"""Hold the sections of the agent's configuration; `edge_agent.config` puts them together."""
