"""Calls and forms from a model of random weights: whatever it draws, grammar and checks leave only what fits."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path

import pytest

from kaelum_flow.facade import Kaelum
from kaelum_graph.config import Settings
from kaelum_graph.encoder import Encoder
from kaelum_graph.models.local import LocalPolicyModel
from kaelum_graph.sandbox import ProcessSandbox
from kaelum_graph.types import Shape, Tool, ToolChoice
from tests.engine.tiny_models import byte_tokenizer, random_qwen2

LIGHT = Tool(
    name="light",
    parameters={
        "type": "object",
        "properties": {"on": {"type": "boolean"}, "color": {"enum": ["red", "green"]}},
        "required": ["on", "color"],
    },
)
SHAPE = Shape(
    kind="json_schema",
    schema={"type": "object", "properties": {"size": {"enum": ["s", "m", "l"]}}, "required": ["size"]},
)


@pytest.fixture
def kaelum(tmp_path: Path, encoder: Encoder, sandbox: ProcessSandbox) -> Generator[Kaelum]:
    settings = Settings.model_validate({"data_dir": tmp_path / "data", "seed": 1, "sims": 4, "max_reflections": 0})
    with (
        LocalPolicyModel(random_qwen2(context=4096), byte_tokenizer(), name="random") as model,
        Kaelum(settings, model=model, encoder=encoder, sandbox=sandbox) as kaelum,
    ):
        yield kaelum


def test_a_forced_call_is_valid(kaelum: Kaelum) -> None:
    for choice in (ToolChoice(mode="required", parallel=False), ToolChoice(name="light")):
        answer = kaelum.ask("Light, please.", tools=[LIGHT], tool_choice=choice, max_tokens=120)
        (call,) = answer.calls
        arguments = json.loads(call.arguments)
        assert call.name == "light"
        assert isinstance(arguments["on"], bool)
        assert arguments["color"] in ("red", "green")


def test_a_form_fits(kaelum: Kaelum) -> None:
    answer = kaelum.ask("Which size?", shape=SHAPE, worker="factual", max_tokens=40)
    assert json.loads(answer.text)["size"] in ("s", "m", "l")
    assert answer.status in ("unverified", "unsure")
