"""Show the whole loop on one machine: a synthetic production line, or a folder of real images."""
