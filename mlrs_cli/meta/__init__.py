"""How a schedule is learned."""
