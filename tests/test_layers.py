"""Imports point one way: adapters → graphs → engine; the engine knows neither LangGraph nor LangChain."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = {
    "kaelum_graph": ROOT / "kaelum_graph",
    "kaelum_flow": ROOT / "graphs" / "kaelum_flow",
    "kaelum_adapters": ROOT / "adapters" / "kaelum_adapters",
}
FORBIDDEN = {
    "kaelum_graph": ("langgraph", "langchain", "langchain_core", "kaelum_flow", "kaelum_adapters"),
    "kaelum_flow": ("kaelum_adapters", "langgraph._internal"),
    "kaelum_adapters": ("langgraph._internal",),
}
FRONT_DOOR = ROOT / "kaelum_graph" / "__init__.py"


def imported(source: str) -> set[str]:
    """Every module a file imports, at any depth of the code."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def breaches(source: str, room: str) -> set[str]:
    """The imports that a file in `room` must not have."""
    return {
        name for name in imported(source) for root in FORBIDDEN[room] if name == root or name.startswith(root + ".")
    }


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_one_way(room: str) -> None:
    files = [path for path in ROOMS[room].rglob("*.py") if path != FRONT_DOOR]
    assert sum(len(imported(path.read_text())) for path in files) > 10, f"nothing was inspected in {ROOMS[room]}"
    found = {path.relative_to(ROOT): breaches(path.read_text(), room) for path in files}
    assert not {path: names for path, names in found.items() if names}


def test_front_door_imports_the_other_rooms_only_lazily() -> None:
    tree = ast.parse(FRONT_DOOR.read_text())
    eager = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert eager
    assert not breaches("\n".join(ast.unparse(node) for node in eager), "kaelum_graph")


@pytest.mark.parametrize(
    ("source", "room"),
    [
        ("import langgraph.graph", "kaelum_graph"),
        ("def f():\n    from langchain_core.messages import AIMessage", "kaelum_graph"),
        ("from kaelum_adapters import node", "kaelum_flow"),
        ("from langgraph import _internal", "kaelum_adapters"),
    ],
)
def test_a_wrong_import_is_found(source: str, room: str) -> None:
    assert breaches(source, room)
