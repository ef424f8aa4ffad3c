"""Every example runs as it is, over a scripted model; the cheapest also on the real one."""

from __future__ import annotations

import os
import re
import runpy
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAIError

from kaelum_adapters.openai_api.app import create_app
from kaelum_flow.facade import Kaelum
from kaelum_graph.models.base import GenerationRequest
from kaelum_graph.types import ToolCall
from tests.adapters.rated_server import on_loopback
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import Said, always

EXAMPLES = Path(__file__).parents[2] / "examples"
LONGEST = 60
"""Lines that a newcomer reads in one go."""


def example(name: str) -> Callable[..., None]:
    """The `main` of an example, with everything around it run."""
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]


def names() -> list[str]:
    return sorted(path.stem for path in EXAMPLES.glob("*.py"))


def test_the_readme_explains_every_example() -> None:
    readme = (EXAMPLES / "README.md").read_text()
    assert re.findall(r"python examples/(\w+)\.py", readme)
    for name in names():
        assert f"python examples/{name}.py" in readme, name
        assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) < LONGEST, name


def test_the_research_agent(make_kaelum: MakeKaelum, capsys: pytest.CaptureFixture[str]) -> None:
    kaelum = make_kaelum(always("9000 / 1800 = 5\nThe answer is \\boxed{5}"))
    example("research_agent")(kaelum)
    told = capsys.readouterr().out
    assert "  … wave rollouts 4, leader 5" in told
    assert "'answer': '5'" in told
    model: Any = kaelum.services.model
    asked = model.requests[0].messages[-1].content
    assert "1800 litres" in asked
    assert "9000 litres" in asked
    assert "Tuesdays" not in asked


@pytest.mark.filterwarnings("ignore:create_react_agent:DeprecationWarning")
def test_the_supervisor_team(make_kaelum: MakeKaelum, capsys: pytest.CaptureFixture[str]) -> None:
    kaelum = make_kaelum(always("7x = 70\nThe answer is \\boxed{10}"))
    example("supervisor_team")(kaelum)
    lines = capsys.readouterr().out.splitlines()
    assert "  … wave 10" in lines
    assert lines[-3] == "Answer: 10"
    assert lines[-1].startswith("Id for feedback: ")
    model: Any = kaelum.services.model
    assert "7x - 12 = 58" in model.requests[0].messages[-1].content


def clerk(request: GenerationRequest, k: int) -> Said:
    """Looks the number up once, then says it."""
    if request.tools and not any(message.calls for message in request.messages):
        return "", (ToolCall(id=f"call_{k}", name="population", arguments='{"country": "Norway"}'),)
    return "The answer is 5.6 million."


@contextmanager
def served(kaelum: Kaelum) -> Generator[str]:
    with on_loopback(create_app(kaelum)) as url:
        yield f"{url}/v1"


@contextmanager
def listening() -> Generator[tuple[str, list[str | None]]]:
    """The address of a server that keeps the keys it is given, and refuses them."""
    heard: list[str | None] = []

    class Refusing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(self.headers.get("authorization"))
            self.rfile.read(int(self.headers["content-length"]))
            self.send_error(401)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1", heard
        server.shutdown()
        thread.join()


def test_the_openai_agents_program(make_kaelum: MakeKaelum, capsys: pytest.CaptureFixture[str]) -> None:
    with served(make_kaelum(clerk)) as url:
        example("agents_sdk")(url)
    called, *_, said = capsys.readouterr().out.splitlines()
    assert called == "  … population('Norway')"
    assert "5.6 million" in said


def test_the_openai_agents_program_sends_no_key_of_openais(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-yours")
    monkeypatch.setenv("SERVER_KEY", "kg-ours")
    with listening() as (url, heard), pytest.raises(OpenAIError):
        example("agents_sdk")(url)
    assert "sk-not-yours" not in str(heard)
    assert heard == ["Bearer kg-ours"]


def test_the_openai_agents_program_without_a_server() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        with pytest.raises(SystemExit, match=f"No server answers at {url}. Start one with `kaelum serve`"):
            example("agents_sdk")(url)


@pytest.mark.parametrize(
    ("said", "status", "answer"),
    [
        (["accept"], "verified", "Sydney"),
        (["reject"], "unsure", "Sydney"),
        (["Canberra"], "verified", "Canberra"),
        (["search", "Canberra"], "verified", "Canberra"),
    ],
)
def test_human_review(
    make_kaelum: MakeKaelum, capsys: pytest.CaptureFixture[str], said: list[str], status: str, answer: str
) -> None:
    words = iter(said)
    kaelum = make_kaelum(always("The answer is Sydney"))
    example("human_review")(kaelum, reader=lambda prompt: next(words))
    told = capsys.readouterr().out
    assert told.count("What is the capital of Australia?") == len(said)
    assert f"'answer': '{answer}', 'status': '{status}'" in told
    assert next(words, None) is None


def test_human_review_says_what_was_wrong_with_a_word(
    make_kaelum: MakeKaelum, capsys: pytest.CaptureFixture[str]
) -> None:
    words = iter(["", "accept"])
    example("human_review")(make_kaelum(always("The answer is Sydney")), reader=lambda prompt: next(words))
    lines = capsys.readouterr().out.splitlines()
    assert lines.count("What is the capital of Australia?") == 2
    assert "answer" in lines[lines.index("What is the capital of Australia?", 1) + 2]


@pytest.mark.model
def test_an_example_on_the_real_model_as_a_user_runs_it(tmp_path: Path) -> None:
    environment = {**os.environ, "KAELUM_DATA_DIR": str(tmp_path), "KAELUM_MODEL": "qwen2.5-coder-0.5b"}
    command = [sys.executable, "-W", "error::UserWarning", str(EXAMPLES / "human_review.py")]
    ran = subprocess.run(
        command, input="Canberra\n", capture_output=True, text=True, timeout=280, env=environment, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "accept, reject, search, or type the right answer:" in ran.stdout
    assert "'answer': 'Canberra', 'status': 'verified'" in ran.stdout
