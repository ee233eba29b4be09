"""Play the cells of the renting grid and tell how they went."""
