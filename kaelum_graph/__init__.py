"""Kaelum Graph: inference-time reasoning that learns.

The public names of all three rooms, imported at first use so that the engine itself stays free of LangGraph.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kaelum_adapters.node import kaelum_node as kaelum_node
    from kaelum_adapters.tool import kaelum_tool as kaelum_tool
    from kaelum_flow.facade import Kaelum as Kaelum

__all__ = ["Kaelum", "kaelum_node", "kaelum_tool"]

_HOME = {
    "Kaelum": "kaelum_flow.facade",
    "kaelum_node": "kaelum_adapters.node",
    "kaelum_tool": "kaelum_adapters.tool",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
