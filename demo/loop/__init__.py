"""Run the whole loop on one machine: services, lines and boxes as processes, a played labeller, a report."""
