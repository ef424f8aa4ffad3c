"""Where programs that a model wrote are run: in isolation, or not at all."""
