"""The LangGraph wiring: the forward pass and the LATS subgraph as state graphs over the engine's parts."""
