"""How far a schedule ends from the best tuned one: tasks, the tuning grid, runs kept by content, regret."""
