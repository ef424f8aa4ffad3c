"""Kaelum Graph: inference-time reasoning that learns.

The public names of all three rooms, imported at first use so that the engine itself stays free of LangGraph.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kaelum_adapters.chat_model import ChatKaelum as ChatKaelum
    from kaelum_adapters.chat_server import ChatKaelumServer as ChatKaelumServer
    from kaelum_adapters.node import kaelum_node as kaelum_node
    from kaelum_adapters.outcome_tool import kaelum_outcome_tool as kaelum_outcome_tool
    from kaelum_adapters.tool import kaelum_tool as kaelum_tool
    from kaelum_flow.create import create_kaelum as create_kaelum
    from kaelum_flow.facade import Kaelum as Kaelum
    from kaelum_flow.state import KaelumState as KaelumState

# Without ChatKaelumServer, which needs langchain-openai: `import *` would ask everyone for it.
__all__ = [
    "ChatKaelum",
    "Kaelum",
    "KaelumState",
    "create_kaelum",
    "kaelum_node",
    "kaelum_outcome_tool",
    "kaelum_tool",
]

_HOME = {
    "ChatKaelum": "kaelum_adapters.chat_model",
    "ChatKaelumServer": "kaelum_adapters.chat_server",
    "Kaelum": "kaelum_flow.facade",
    "KaelumState": "kaelum_flow.state",
    "create_kaelum": "kaelum_flow.create",
    "kaelum_node": "kaelum_adapters.node",
    "kaelum_outcome_tool": "kaelum_adapters.outcome_tool",
    "kaelum_tool": "kaelum_adapters.tool",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
