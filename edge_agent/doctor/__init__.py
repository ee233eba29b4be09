"""Find out what is wrong with a box and say what to do; checks stand alone and may run beside the agent."""
