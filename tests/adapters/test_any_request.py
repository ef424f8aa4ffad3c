"""Whatever the server's own OpenAPI page allows, and what it doesn't: no request may break the server."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import uvicorn

from kaelum_adapters.openai_api.app import create_app
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import always


def test_no_request_breaks_the_server(make_kaelum: MakeKaelum, tmp_path: Path) -> None:
    app = create_app(make_kaelum(always("2 + 2 = 4\n\\boxed{4}"), sims=4))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        limit = time.monotonic() + 30
        while not server.started or app.state.server.readiness.state != "ready":
            assert time.monotonic() < limit
            time.sleep(0.05)
        url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/openapi.json"
        program = str(Path(sys.executable).with_name("schemathesis"))
        checks = ["--checks", "not_a_server_error,status_code_conformance", "--max-examples", "20", "--seed", "1"]
        ran = subprocess.run(
            [program, "run", url, *checks, "--phases", "examples,fuzzing", "--no-color"],
            cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
        tried = re.search(r"(\d+) generated, (\d+) passed", ran.stdout)
        assert tried, ran.stdout[-3000:]
        assert int(tried[1]) == int(tried[2]) > 200
    finally:
        server.should_exit = True
        thread.join(30)
