"""Mirror trainer.planning: pure plans of made-up offers, networks and finished runs."""
