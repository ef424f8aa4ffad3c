"""What LangGraph Server runs, as `langgraph.json` names it: Kaelum as a graph, and OpenAI's API beside it.

Both are over one Kaelum, so one model is loaded for them, one cache serves them and one state learns. The graph is
uncompiled: the server brings its own checkpointer and store. Importing this reads the settings; whoever wants to build
another server takes `create_kaelum` and `host_app`.
"""

from __future__ import annotations

import logging

from kaelum_adapters.langgraph_app import host_app
from kaelum_flow.create import create_kaelum
from kaelum_flow.facade import Kaelum

kaelum = Kaelum(notify=logging.getLogger("kaelum.server").info)
graph = create_kaelum(kaelum)
app = host_app(kaelum)
