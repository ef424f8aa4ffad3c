"""Whose searches' answers are served to whom: by their limits, by what a later search found, by what is trusted."""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from kaelum_flow.facade import Kaelum
from kaelum_graph.config import Settings
from kaelum_graph.encoder import Encoder
from kaelum_graph.models.base import Generation
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import ScriptedModel, always

GERBILS = "How many gerbils live in the red barn of Bodo?"
EQUATION = "Solve 3x + 5 = 20 for x."


def boxed(answer: str) -> str:
    return f"The answer is \\boxed{{{answer}}}."


@pytest.mark.parametrize("limit", [{"sims": 32}, {"effort": "max"}, {"max_tokens": 500}])
def test_a_guess_is_not_served_to_who_asks_for_another_effort(make_kaelum: MakeKaelum, limit: dict[str, Any]) -> None:
    kaelum = make_kaelum(always(boxed("41")), max_reflections=0, learning=False)
    first = kaelum.ask(GERBILS, worker="math")
    assert first.status == "unverified"
    assert kaelum.ask(GERBILS, worker="math").cache == "hit"
    harder = kaelum.ask(GERBILS, worker="math", **limit)
    assert (harder.cache, harder.cost.rollouts > 0) == ("miss", True)
    assert kaelum.ask(GERBILS, worker="math", **limit).id == harder.id
    assert kaelum.ask(GERBILS, worker="math").id == first.id


def test_a_verified_answer_serves_any_effort_but_no_other_length(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always(boxed("5")), learning=False)
    assert kaelum.ask(EQUATION, worker="math").status == "verified"
    assert kaelum.ask(EQUATION, worker="math", effort="max").cache == "hit"
    assert kaelum.ask(EQUATION, worker="math", sims=64).cache == "hit"
    other = "Solve 4x + 5 = 25 for x."
    assert kaelum.ask(other, worker="math", sims=4).status == "verified"
    assert kaelum.ask(other, worker="math").cache == "hit"
    assert kaelum.ask(EQUATION, worker="math", max_tokens=500).cache == "miss"


def test_a_verified_answer_comes_before_an_earlier_guess_with_the_same_limits(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always(boxed("41")), learning=False, max_reflections=0)
    guess = kaelum.ask(GERBILS, worker="math", sims=2)
    usual = kaelum.ask(GERBILS, worker="math")
    assert kaelum.ask(GERBILS, worker="math", sims=2).id == guess.id != usual.id
    (entry,) = (one for one in kaelum.services.storage.cache_entries() if one.episode_id == usual.id)
    kaelum.services.cache.add(replace(entry, answer={**entry.answer, "status": "verified"}))
    assert kaelum.ask(GERBILS, worker="math", sims=2).id == usual.id


def test_a_text_that_was_cut_is_not_kept(make_kaelum: MakeKaelum, monkeypatch: pytest.MonkeyPatch) -> None:
    kaelum = make_kaelum(always(boxed("5")), learning=False)
    generate = ScriptedModel.generate

    def cut(*given: Any, **how: Any) -> list[Generation]:
        made = generate(*given, **how)
        return [replace(one, samples=tuple(replace(each, finish="length") for each in one.samples)) for one in made]

    monkeypatch.setattr(ScriptedModel, "generate", cut)
    assert kaelum.ask(EQUATION, worker="math").answer == "5"
    assert kaelum.ask(EQUATION, worker="math").cache == "miss"
    monkeypatch.undo()
    assert kaelum.ask(EQUATION, worker="math").cache == "miss"
    assert kaelum.ask(EQUATION, worker="math").cache == "hit"


def test_a_search_that_goes_on_to_another_answer_takes_the_first_out_of_the_cache(make_kaelum: MakeKaelum) -> None:
    said = ["41"]
    kaelum = make_kaelum(lambda request, k: boxed(said[0]), learning=False, early_stop=False, max_reflections=0)
    first = kaelum.ask(GERBILS, worker="math", sims=4)
    assert kaelum.ask(GERBILS, worker="math", sims=4).id == first.id
    same = kaelum.continue_search(first.id, sims=2)
    assert same.answer == "41"
    said[0] = "42"
    second = kaelum.continue_search(same.id, sims=16)
    assert second.answer == "42"
    again = kaelum.ask(GERBILS, worker="math", sims=4)
    assert (again.answer, again.id == first.id) == ("42", False)


def test_what_was_verified_by_trusted_sources_is_not_served_without_trust(
    make_kaelum: MakeKaelum, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "barn.txt").write_text("In the red barn of Bodo there live 41 gerbils.", encoding="utf-8")
    given: dict[str, object] = {"documents": notes, "learning": False}
    assert make_kaelum(always(boxed("41")), trust_sources=True, **given).ask(GERBILS, worker="factual").cache == "miss"
    assert make_kaelum(always(boxed("41")), trust_sources=True, **given).ask(GERBILS, worker="factual").cache == "hit"
    assert make_kaelum(always(boxed("41")), **given).ask(GERBILS, worker="factual").cache == "miss"


@pytest.fixture
def server() -> Generator[tuple[str, dict[str, str]]]:
    """The address of an OpenAI-compatible server with one model, and what names it and is its answer."""
    now = {"name": "model-a", "answer": "41"}

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def say(self, told: object) -> None:
            body = json.dumps(told).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.say({"object": "list", "data": [{"id": now["name"], "object": "model"}]})

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            message = {"role": "assistant", "content": boxed(now["answer"])}
            choices = [{"index": at, "message": message, "finish_reason": "stop"} for at in range(asked.get("n") or 1)]
            usage = {"prompt_tokens": 1, "completion_tokens": 5 * len(choices), "total_tokens": 6}
            self.say({"id": "x", "object": "chat.completion", "created": 1, "model": now["name"], "choices": choices,
                      "usage": usage})  # fmt: skip

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1", now
    server.shutdown()
    server.server_close()


def test_another_model_behind_the_same_address_is_another_model(
    server: tuple[str, dict[str, str]], tmp_path: Path, encoder: Encoder
) -> None:
    address, now = server
    settings = Settings.model_validate({"data_dir": tmp_path, "base_url": address, "learning": False})

    def ask() -> tuple[str | None, str]:
        with Kaelum(settings, encoder=encoder) as kaelum:
            answer = kaelum.ask(GERBILS, worker="math")
        return answer.answer, answer.cache

    assert [ask(), ask()] == [("41", "miss"), ("41", "hit")]
    now.update(name="model-b", answer="42")
    assert ask() == ("42", "miss")
