"""Kaelum's graph for whoever compiles it: as a graph of its own, or as a part of a bigger one."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from langgraph.graph import StateGraph

from kaelum_flow.facade import Kaelum
from kaelum_flow.forward import build_forward


def create_kaelum(
    kaelum: Kaelum | None = None,
    *,
    review: bool = False,
    inputs: Collection[str] | None = None,
    **options: object,
) -> StateGraph[Any, Any, Any, Any]:
    """The forward pass as an uncompiled `StateGraph` over `KaelumState`, whose `messages` a host shares.

        graph = create_kaelum().compile(name="kaelum", checkpointer=InMemorySaver())
        graph.invoke({"messages": [("user", "What is 17 * 23?")]}, {"configurable": {"thread_id": "1"}})

    Its services are those of `kaelum` (a new one without), bound here: whatever context, store or checkpointer the
    host has, the search runs on them. `options` are per-query settings (`sims`, `worker`, `deadline`, …) that hold
    unless the state's own `options` say otherwise. With `review` a search whose answer doesn't pass
    (see `min_confidence`) is interrupted for a person, which takes a checkpointer; it is resumed with
    `Command(resume={"action": …})`: "accept", "reject", "correct" with an `answer`, or "search" with `sims`. What the
    person says is learned as feedback. Calls of tools, and what is said in place of them, are not reviewed: they are
    for the caller to look at. `inputs` are the keys of `KaelumInput` that are read from the state: ("messages",) for a
    subgraph of a host whose `query`, `options` or `tenant` mean something else. Raises `UsageError` or `ConfigError`
    for a bad option.
    """
    served = kaelum or Kaelum()
    served.services.settings_for(options)
    return build_forward(served.services, options=options, review=review, inputs=inputs)
