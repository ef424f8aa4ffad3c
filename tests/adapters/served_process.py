"""`python -m tests.adapters.served_process PORT DRAIN_SECONDS [SECONDS_TO_LOAD]`: a server to send signals to."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from kaelum_adapters.openai_api.log_lines import start_log
from kaelum_adapters.openai_api.serving import listen, serve, url_of
from kaelum_flow.facade import Kaelum
from kaelum_graph.config import Settings
from tests.adapters.tiny_server import tiny_app
from tests.graphs.scripted_model import ScriptedModel, always


def main(port: int, drain_seconds: float, load_seconds: float) -> None:
    start_log(form="text", level="info")
    settings = Settings(data_dir=Path(os.environ["KAELUM_DATA_DIR"]), hub="off")
    kaelum = Kaelum(settings, model=ScriptedModel(always("4")))
    app = tiny_app(kaelum, drain_seconds=drain_seconds)
    # The encoder is none of what these tests look at, and seconds to load.
    app.state.server.readiness._load = lambda: time.sleep(load_seconds)
    with listen("127.0.0.1", port) as bound:
        settled = serve(app, bound, on_listening=lambda: print(url_of(bound), file=sys.stderr, flush=True))
    print("settled" if settled else "still loading", file=sys.stderr, flush=True)
    if not settled:
        os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else 0.0)
