"""Mirror flows.planning: real installations, lineage and offers, and one real trace."""
