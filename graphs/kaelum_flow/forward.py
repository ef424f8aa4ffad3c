"""The forward pass as a LangGraph state graph: embed, call, cache, route, retrieve, LATS, verify, shape, feedback,
respond."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from langgraph.graph import END, START, StateGraph

from kaelum_flow.call_search import CallNode
from kaelum_flow.lats import build_lats
from kaelum_flow.nodes import ForwardNodes
from kaelum_flow.review import ReviewNode
from kaelum_flow.services import Services
from kaelum_flow.shaping import ShapeNode
from kaelum_flow.sources import SourceNode
from kaelum_flow.state import KaelumInput, KaelumOutput, KaelumState, only
from kaelum_graph.config import Settings


def build_forward(
    services: Services,
    *,
    options: Mapping[str, object] | None = None,
    review: bool = False,
    inputs: Collection[str] | None = None,
    checkpointed: bool = True,
) -> StateGraph[Any, Any, Any, Any]:
    """The forward pass, uncompiled: the caller chooses the checkpointer and the store.

    `options` hold for every query that doesn't say otherwise. With `review` a person is asked about answers that don't
    pass. `inputs` are the keys of `KaelumInput` that are read, all without. Unless `checkpointed` the LATS
    subgraph keeps nothing in whatever checkpointer is around it. Raises `UsageError` for an unknown input.
    """
    nodes, calls = ForwardNodes(services, options=options or {}, review=review), CallNode(services)
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(
        KaelumState, input_schema=KaelumInput if inputs is None else only(inputs), output_schema=KaelumOutput
    )
    graph.add_node("embed", nodes.embed)
    graph.add_node("call", calls.call)
    graph.add_node("cache", nodes.cache)
    graph.add_node("route", nodes.route)
    graph.add_node("retrieve", SourceNode(services).retrieve)
    graph.add_node("lats", build_lats(services).compile(checkpointer=None if checkpointed else False))
    graph.add_node("verify", nodes.verify)
    graph.add_node("reflect", nodes.reflect)
    graph.add_node("shape", ShapeNode(services).shape)
    graph.add_node("feedback", nodes.feedback)
    graph.add_node("respond", nodes.respond)
    graph.add_edge(START, "embed")
    graph.add_edge("embed", "call")
    graph.add_conditional_edges("call", calls.after_call, ["cache", "shape", "feedback"])
    graph.add_conditional_edges("cache", nodes.after_cache, {"hit": "respond", "miss": "route"})
    graph.add_edge("route", "retrieve")
    graph.add_edge("retrieve", "lats")
    graph.add_edge("lats", "verify")
    graph.add_conditional_edges(
        "verify", nodes.after_verify, ["reflect", *(["review"] if review else []), "shape", "feedback"]
    )
    graph.add_edge("reflect", "lats")
    if review:
        reviewing = ReviewNode(services)
        graph.add_node("review", reviewing.review)
        graph.add_conditional_edges("review", reviewing.after_review, ["lats", "shape", "feedback"])
    graph.add_edge("shape", "feedback")
    graph.add_edge("feedback", "respond")
    graph.add_edge("respond", END)
    return graph


def mermaid() -> str:
    """The Mermaid drawing of the graph as built, the LATS subgraph opened. Loads no model."""
    compiled = build_forward(Services(Settings())).compile(name="kaelum")
    return compiled.get_graph(xray=True).draw_mermaid()
