"""Hold the simulated cloud, whose machines are real processes, to what it promises."""
