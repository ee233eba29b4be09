"""Tell boxes which release to run, and follow how they fare: pure rules, and the orders they become."""
