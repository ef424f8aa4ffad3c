"""Shims that make Kaelum a part of other systems: a node of a host graph, a tool of an agent."""
