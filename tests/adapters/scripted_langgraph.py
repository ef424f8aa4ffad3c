"""What `kaelum_adapters.langgraph_server` is, over a scripted model: for a LangGraph Server of its own."""

from __future__ import annotations

import os
from pathlib import Path

from kaelum_adapters.langgraph_app import host_app
from kaelum_flow.create import create_kaelum
from kaelum_flow.facade import Kaelum
from kaelum_graph.config import Settings
from tests.graphs.scripted_model import ScriptedModel, always

BOXED = "First I subtract.\nThe answer is \\boxed{5}"

_kaelum = Kaelum(
    Settings(data_dir=Path(os.environ["KAELUM_DATA_DIR"]), hub="off"), model=ScriptedModel(always(BOXED), seconds=0.2)
)

graph = create_kaelum(_kaelum)
app = host_app(_kaelum)
