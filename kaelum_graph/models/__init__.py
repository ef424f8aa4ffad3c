"""Policy models: the interface, and the backends behind it."""
