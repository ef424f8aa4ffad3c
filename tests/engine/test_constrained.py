"""Tools, forced calls, shapes, penalties and biases on the local model, on both engines, with random weights."""

from __future__ import annotations

import gc
import json
from collections import Counter
from collections.abc import Generator
from functools import reduce
from typing import Any, cast

import jsonschema
import pytest
import torch

from kaelum_graph.errors import UsageError
from kaelum_graph.models.base import Delta, Generation, GenerationRequest, Sample, Sampling
from kaelum_graph.models.closed_schema import closed
from kaelum_graph.models.grammars import Grammars
from kaelum_graph.models.local import LocalPolicyModel
from kaelum_graph.models.prompts import ChatPrompt
from kaelum_graph.models.running_sample import Mailbox
from kaelum_graph.types import Json, Message, Shape, Tool, ToolCall, ToolChoice
from tests.engine.tiny_models import VOCABULARY, byte_tokenizer, random_qwen2, reciting_qwen2

SCHEMA: Json = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["cat", "dog"]},
        "age": {"type": "integer", "minimum": 0, "maximum": 30},
        "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "minItems": 1, "maxItems": 2},
    },
    "required": ["kind", "age", "tags"],
    "$defs": {"tag": {"type": "string", "maxLength": 3}},
}
WEATHER = Tool(
    name="weather",
    description="The weather.",
    parameters={
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 6}, "days": {"type": "integer", "maximum": 9}},
        "required": ["city"],
    },
)
PING = Tool(name="ping")
DEEP: Json = reduce(lambda inner, _: {"type": "object", "properties": {"a": inner}}, range(3000), {})
REQUIRED = ToolChoice(mode="required")
END = byte_tokenizer().eos_token_id
PROMPT = list(ChatPrompt(byte_tokenizer()).encode((Message("user", "go"),)))


@pytest.fixture(scope="module", autouse=True)
def light_collections() -> Generator[None]:
    """The library collects garbage whenever a manager stops; what the imports left need not be searched each time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module", params=["padded", "continuous"])
def model(request: pytest.FixtureRequest) -> Generator[LocalPolicyModel]:
    """A tiny random model on the engine under test."""
    tiny = random_qwen2(context=2048)
    with LocalPolicyModel(tiny, byte_tokenizer(), name="tiny", engine=request.param) as served:
        assert served.engine_name == request.param
        yield served


def ask(text: str = "go", *, n: int = 1, partial: str = "", sampling: Json | None = None, **fields: Any) -> Any:
    settings: Any = {"max_tokens": 150, "seed": 3, "temperature": 1.0} | (sampling or {})
    return GenerationRequest(
        messages=(Message("user", text),), n=n, partial_answer=partial, sampling=Sampling(**settings), **fields
    )


def samples_of(model: LocalPolicyModel, request: GenerationRequest) -> tuple[Sample, ...]:
    (generation,) = model.generate([request])
    assert generation.error is None
    return generation.samples


def error_of(model: LocalPolicyModel, request: GenerationRequest) -> str:
    (generation,) = model.generate([request])
    assert isinstance(generation.error, UsageError)
    assert "\n" not in str(generation.error)
    return str(generation.error)


def without_ids(samples: tuple[Sample, ...]) -> list[list[tuple[str, str]]]:
    return [[(call.name, call.arguments) for call in sample.calls] for sample in samples]


# Shapes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_every_sample_fits_the_schema(model: LocalPolicyModel, temperature: float) -> None:
    shape = Shape(kind="json_schema", name="pet", schema=SCHEMA, strict=True)
    samples = samples_of(model, ask(n=5, shape=shape, sampling={"temperature": temperature}))
    for sample in samples:
        assert (sample.finish, sample.stopped_by) == ("stop", "")
        jsonschema.validate(json.loads(sample.text), SCHEMA)
        assert sample.token_logprobs is not None
        assert sample.completion_tokens == len(sample.token_logprobs)
    assert len({sample.text for sample in samples}) == (1 if temperature == 0 else 5)
    assert model.capabilities.shapes


def test_any_json_object_ends_when_it_is_one(model: LocalPolicyModel) -> None:
    # A bias that closes what it can: with random weights strings and objects would seldom end.
    closing = [(byte_tokenizer().convert_tokens_to_ids(mark), 60.0) for mark in ('"', "}")]
    shape = Shape(kind="json_object")
    for sample in samples_of(model, ask(n=4, shape=shape, sampling={"logit_bias": tuple(closing)})):
        assert sample.finish == "stop"
        assert isinstance(json.loads(sample.text), dict)


def test_a_shape_cut_short_says_so(model: LocalPolicyModel) -> None:
    shape = Shape(kind="json_schema", schema=SCHEMA)
    (sample,) = samples_of(model, ask(shape=shape, sampling={"max_tokens": 6}))
    assert (sample.finish, len(sample.text)) == ("length", 6)


def test_log_probabilities_are_the_models_own(model: LocalPolicyModel) -> None:
    """Of the few tokens that a schema leaves, each keeps the probability that it has among all."""
    shape = Shape(kind="json_schema", schema={"const": "ab"})
    (sample,) = samples_of(model, ask(shape=shape))
    assert sample.text == '"ab"'
    assert sample.token_logprobs is not None
    tokenizer: Any = model.tokenizer
    ids = PROMPT + tokenizer.encode('"ab"')
    with torch.no_grad():
        logits = model.model(torch.tensor([ids], device=model.model.device)).logits[0].float().log_softmax(-1)
    expected = [float(logits[at - 1, ids[at]]) for at in range(len(PROMPT), len(ids))]
    assert sample.token_logprobs == pytest.approx(expected, abs=1e-3)


def test_objects_hold_no_more_than_they_name() -> None:
    named: Json = {"type": "object", "properties": {"a": {"type": "object", "properties": {"b": {}}}}}
    narrow = closed(named)
    assert narrow["additionalProperties"] is False
    assert narrow["properties"]["a"]["additionalProperties"] is False
    assert "additionalProperties" not in named
    reference: Json = {"properties": {"a": {}}, "$ref": "#/x"}
    for left in (
        {"type": "object"},
        {"properties": {"a": {}}, "required": ["b"]},
        {"properties": {"a": {}}, "additionalProperties": {"type": "string"}},
        {"properties": {"a": {}}, "patternProperties": {"^x": {}}},
        {"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]},
        {"enum": [{"properties": {"a": {}}}]},
        reference,
        {"properties": {"a": {}}, "anyOf": [{"properties": {"b": {}}}, {"properties": {"c": {}}}]},
        {"required": ["a"], "$ref": "#/$defs/b", "$defs": {"b": {"properties": {"b": {}}}}},
    ):
        assert closed(left) == left
    assert closed({"items": {"properties": {"a": {}}}})["items"]["additionalProperties"] is False
    assert closed({"$defs": {"x": {"properties": {"a": {}}}}})["$defs"]["x"]["additionalProperties"] is False


def test_alternatives_beside_properties_leave_room_for_them(model: LocalPolicyModel) -> None:
    short: Json = {"type": "string", "maxLength": 2}
    schema: Json = {
        "type": "object",
        "properties": {"a": short},
        "required": ["a"],
        "anyOf": [
            {"properties": {"b": short}, "required": ["b"]},
            {"properties": {"c": short}, "required": ["c"]},
        ],
    }
    for strict in (True, False):
        constraints = model._grammars.constraints(ask(shape=Shape(kind="json_schema", schema=schema, strict=strict)))
        assert constraints is not None
        for token in byte_tokenizer().encode('{"a": "x", "c": "y"}', add_special_tokens=False):
            constraints[0].take(token)


# Calls --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parallel", [True, False])
def test_a_call_can_be_required(model: LocalPolicyModel, parallel: bool) -> None:
    choice = ToolChoice(mode="required", parallel=parallel)
    samples = samples_of(model, ask(n=4, tools=(WEATHER, PING), tool_choice=choice, sampling={"max_tokens": 400}))
    for sample in samples:
        assert sample.calls
        assert len(sample.calls) == 1 or parallel
        for call in sample.calls:
            jsonschema.validate(
                json.loads(call.arguments), {"ping": {"const": {}}, "weather": WEATHER.parameters}[call.name]
            )
        assert sample.finish == "stop"
        assert sample.text == ""
        assert sample.token_texts is not None
        assert "".join(sample.token_texts).startswith('<tool_call>\n{"name": "')


def test_a_model_that_repeats_its_call_is_stopped(model: LocalPolicyModel) -> None:
    never = {"logit_bias": ((END, -100.0),), "max_tokens": 1000}
    (sample,) = samples_of(model, ask(tools=(PING,), tool_choice=REQUIRED, sampling=never))
    assert (len(sample.calls), sample.finish, sample.text) == (1, "stop", "")
    assert sample.completion_tokens < 200


def test_a_named_tool_is_called_once(model: LocalPolicyModel) -> None:
    for sample in samples_of(model, ask(n=3, tools=(WEATHER, PING), tool_choice=ToolChoice(name="ping"))):
        assert [(call.name, call.arguments) for call in sample.calls] == [("ping", "{}")]


def test_a_forced_call_minds_no_stop_string_and_streams_no_text(model: LocalPolicyModel) -> None:
    deltas: list[Delta] = []
    request = ask(tools=(PING,), tool_choice=REQUIRED, sampling={"stop": ("name", "\n"), "max_tokens": 300})
    request = cast("GenerationRequest", request)
    (generation,) = model.generate([request], on_delta=deltas.append)
    assert generation.samples[0].calls[0].name == "ping"
    assert deltas == []


def test_an_attempt_begun_in_words_can_end_in_a_call(model: LocalPolicyModel) -> None:
    choice = ToolChoice(name="ping")
    (sample,) = samples_of(model, ask(partial="I need the tool. ", tools=(PING,), tool_choice=choice))
    assert [call.name for call in sample.calls] == ["ping"]


def test_tools_beside_a_shape_leave_both_ways_open(model: LocalPolicyModel) -> None:
    shape = Shape(kind="json_schema", schema={"type": "boolean"}, strict=True)
    once = ToolChoice(parallel=False)
    for mark, left, calls in (("<", "", 1), ("t", "true", 0), ("f", "false", 0)):
        bias = ((byte_tokenizer().convert_tokens_to_ids(mark), 90.0),)
        request = ask(tools=(PING,), tool_choice=once, shape=shape, sampling={"logit_bias": bias})
        (sample,) = samples_of(model, request)
        assert (sample.finish, sample.text, len(sample.calls)) == ("stop", left, calls)


def test_what_a_model_calls_by_itself_conforms(model: LocalPolicyModel) -> None:
    """Whoever writes the tag under "auto" goes on to write a whole call; before it any words may stand."""
    engine = cast("Any", model.engine_name)
    with LocalPolicyModel(reciting_qwen2("So:<tl"), byte_tokenizer(), name="reciting", engine=engine) as served:
        (spoken,) = samples_of(served, ask(tools=(PING,), sampling={"temperature": 0.0}))
        assert (spoken.text, spoken.finish, spoken.calls) == ("So:<tl", "stop", ())
    tokenizer = byte_tokenizer()
    choice = ToolChoice(parallel=False)
    constraints = model._grammars.constraints(ask(tools=(PING,), tool_choice=choice))
    assert constraints is not None
    constraint = constraints[0]
    for token in tokenizer.encode('I call.\n<tool_call>\n{"name": "ping", "arguments": ', add_special_tokens=False):
        constraint.take(token)
    assert [tokenizer.decode([int(token)]) for token in constraint.allowed().nonzero()[0]] == ["{"]
    for token in tokenizer.encode("{}}\n</tool_call>", add_special_tokens=False):
        assert not constraint.ended
        constraint.take(token)
    assert constraint.ended


def test_a_stop_string_does_not_cut_a_call(model: LocalPolicyModel) -> None:
    request = ask(tools=(PING,), sampling={"stop": ("\n", "}"), "max_tokens": 100})
    prepared = model._prepare(request, Mailbox(streaming=False))
    assert not isinstance(prepared, Generation)
    (running,) = prepared
    running.max_tokens = 100
    for token in byte_tokenizer().encode('<tool_call>\n{"name": "ping", "arguments": {}}\n</tool_call>\nI'):
        running.push(token, -1.0)
    sample = running.sample()
    assert [call.name for call in sample.calls] == ["ping"]
    assert (sample.text, sample.finish, sample.stopped_by) == ("", "stop", "\n")


def test_calls_stay_text_where_none_may_be_made(model: LocalPolicyModel) -> None:
    none = ToolChoice(mode="none")
    assert model._grammars.constraints(ask(tools=(PING,), tool_choice=none)) is None
    (offered, plain) = model.generate([ask(tools=(PING,), tool_choice=none), ask()])
    assert offered.samples[0].text == plain.samples[0].text
    assert offered.prompt_tokens == plain.prompt_tokens


@pytest.mark.parametrize("special", [False, True])
def test_a_tokenizer_may_have_the_tags_as_tokens(special: bool) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["<tool_call>", "</tool_call>", "<think>"], special_tokens=special)
    grammars = Grammars(tokenizer, vocabulary=len(tokenizer), eos_ids=[END])
    mark, think = (tokenizer.convert_tokens_to_ids(tag) for tag in ("<tool_call>", "<think>"))
    call = tokenizer.encode('<tool_call>\n{"name": "ping", "arguments": {}}\n</tool_call>')
    assert call[0] == mark
    assert ChatPrompt(tokenizer).decode([*call, mark]).endswith("}}\n</tool_call><tool_call>")
    for choice in (REQUIRED, ToolChoice()):
        constraints = grammars.constraints(ask(tools=(PING,), tool_choice=choice))
        assert constraints is not None
        allowed = constraints[0].allowed()
        assert allowed[mark]
        if choice is REQUIRED:
            assert allowed.sum() == 1
        else:
            assert bool(allowed[think]) is not special
        for token in call:
            assert constraints[0].allowed()[token]
            constraints[0].take(token)
        assert constraints[0].allowed()[END]


# Beside others ------------------------------------------------------------------------------------------------------


def test_constrained_and_free_sequences_share_a_batch(model: LocalPolicyModel) -> None:
    shape = Shape(kind="json_schema", schema=SCHEMA)
    requests = [
        ask("free", n=2, sampling={"max_tokens": 40}),
        ask("shaped", n=2, shape=shape),
        ask("called", tools=(PING,), tool_choice=REQUIRED, sampling={"max_tokens": 300}),
        ask("punished", n=2, sampling={"frequency_penalty": 2.0, "max_tokens": 40}),
    ]
    alone = [samples_of(model, request) for request in requests]
    together = [generation.samples for generation in model.generate(requests)]
    for one, many in zip(alone, together, strict=True):
        assert [sample.text for sample in one] == [sample.text for sample in many]
        assert without_ids(one) == without_ids(many)
        for left, right in zip(one, many, strict=True):
            assert left.token_logprobs == pytest.approx(right.token_logprobs, abs=1e-3)


# Penalties, biases, alternatives ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("frequency", "presence"), [(1.5, 0.0), (0.0, 2.0), (-1.0, 0.5)])
def test_penalties_count_what_was_generated(model: LocalPolicyModel, frequency: float, presence: float) -> None:
    settings = {"temperature": 0.0, "max_tokens": 40, "logit_bias": ((END, -100.0),)}
    penalties = {"frequency_penalty": frequency, "presence_penalty": presence}
    (plain,) = samples_of(model, ask(sampling=settings))
    (sample,) = samples_of(model, ask(sampling=settings | penalties))
    assert sample.text != plain.text
    assert sample.token_logprobs is not None
    # What was drawn is told by its own log-probability alone, so that must be the likeliest after the penalties.
    ids, counts = list(PROMPT), Counter[int]()
    for logprob in sample.token_logprobs:
        logits = model.model(torch.tensor([ids], device=model.model.device)).logits[0, -1].float().detach()
        logits[END] -= 100
        punished = logits.clone()
        for token, count in counts.items():
            punished[token] -= frequency * count + presence
        drawn = int(punished.argmax())
        own = logits.clone()
        own[END] += 100
        assert logprob == pytest.approx(float(own.log_softmax(-1)[drawn]), abs=1e-2)
        counts[drawn] += 1
        ids.append(drawn)


def test_a_bias_forbids_and_forces_tokens(model: LocalPolicyModel) -> None:
    (plain,) = samples_of(model, ask(sampling={"temperature": 0.0, "max_tokens": 1, "top_logprobs": 1}))
    assert plain.alternatives is not None
    first = next(
        token for token in range(256) if byte_tokenizer().decode([token]) == plain.alternatives[0][0][0] or token == 255
    )
    banned = ask(sampling={"temperature": 0.0, "max_tokens": 1, "logit_bias": ((first, -100.0),)})
    assert samples_of(model, banned)[0].text != plain.text
    letter = byte_tokenizer().convert_tokens_to_ids("k")
    (forced,) = samples_of(model, ask(sampling={"max_tokens": 5, "logit_bias": ((letter, 100.0),)}))
    assert forced.text == "kkkkk"


def test_alternatives_are_told_for_each_token(model: LocalPolicyModel) -> None:
    greedy = ask(sampling={"temperature": 0.0, "max_tokens": 8, "top_logprobs": 3})
    (sample,) = samples_of(model, greedy)
    assert sample.alternatives is not None
    assert sample.token_logprobs is not None
    assert [len(row) for row in sample.alternatives] == [3] * len(sample.token_logprobs)
    for row, logprob in zip(sample.alternatives, sample.token_logprobs, strict=True):
        values = [value for _, value in row]
        assert values == sorted(values, reverse=True)
        assert values[0] == pytest.approx(logprob)
    (untold,) = samples_of(model, ask())
    assert untold.alternatives is None


# What makes no sense ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"shape": Shape(kind="json_schema")}, "without a schema"),
        ({"shape": Shape(kind="json_schema", name="x", schema={"type": "colour"})}, "'x' cannot be followed: Invalid"),
        ({"shape": Shape(kind="json_schema", schema={"$ref": "http://a/b"})}, "http://a/b"),
        ({"shape": Shape(kind="json_schema", schema={"type": "array", "uniqueItems": True}, strict=True)}, "uniqueIt"),
        ({"shape": Shape(kind="json_schema", schema={"type": "string", "pattern": "(?=a)b"})}, "look-around"),
        ({"shape": Shape(kind="json_schema", schema={"$ref": "#"})}, "cannot be followed: NoExt"),
        ({"shape": Shape(kind="json_schema", schema=DEEP)}, "nested too deeply"),
        ({"tools": (Tool(name="deep", parameters=DEEP),)}, "nested too deeply"),
        ({"shape": Shape(kind="json_object"), "partial": "{"}, "partial answer"),
        ({"tools": (PING, PING)}, "two tools are named 'ping'"),
        ({"tools": (Tool(name=""),)}, "no name"),
        ({"tools": (PING,), "tool_choice": ToolChoice(name="pong")}, "names 'pong'; the tools are: ping"),
        ({"tool_choice": REQUIRED}, "there are no tools"),
        ({"tools": (Tool(name="a", parameters={"type": "array"}),), "tool_choice": REQUIRED}, "expected 'object'"),
        ({"tools": (Tool(name="a", parameters={"not": {}}, strict=True),)}, "tool 'a' cannot be followed"),
        ({"tools": (PING,), "partial": "<tool_call>"}, "beginning of a tool call"),
        ({"sampling": {"frequency_penalty": 3.0}}, "frequency_penalty is 3.0"),
        ({"sampling": {"presence_penalty": float("nan")}}, "presence_penalty is nan"),
        ({"sampling": {"logit_bias": ((VOCABULARY, 1.0),)}}, f"0 to {VOCABULARY - 1}"),
        ({"sampling": {"logit_bias": ((3, 101.0),)}}, "from -100 to 100"),
        ({"sampling": {"top_logprobs": 21}}, "from 0 to 20"),
    ],
)
def test_what_cannot_be_done_is_refused_alone(model: LocalPolicyModel, fields: Json, reason: str) -> None:
    assert reason in error_of(model, ask(**fields))


def test_a_pattern_that_grows_too_large_on_the_way_is_the_clients_fault(model: LocalPolicyModel) -> None:
    schema: Json = {"type": "string", "pattern": "((a{0,100}){0,100}){0,100}"}
    constraints = model._grammars.constraints(ask(shape=Shape(kind="json_schema", schema=schema)))
    assert constraints is not None

    def follow() -> None:
        for token in byte_tokenizer().encode('"' + "a" * 300, add_special_tokens=False):
            constraints[0].allowed()
            constraints[0].take(token)

    with pytest.raises(UsageError, match="cannot be followed: lexer error"):
        follow()


def test_a_schema_that_is_not_strict_is_followed_as_far_as_it_goes(model: LocalPolicyModel) -> None:
    schema = {"type": "array", "items": {"type": "boolean"}, "maxItems": 2, "uniqueItems": True}
    (sample,) = samples_of(model, ask(shape=Shape(kind="json_schema", schema=schema)))
    assert all(isinstance(item, bool) for item in json.loads(sample.text))


def test_tools_that_nothing_was_promised_for_are_offered_all_the_same(model: LocalPolicyModel) -> None:
    odd = Tool(name="odd", parameters={"type": "object", "properties": {"a": {"type": "colour"}}})
    (sample,) = samples_of(model, ask(tools=(odd,), sampling={"max_tokens": 5}))
    assert sample.completion_tokens > 0


# Prompts ------------------------------------------------------------------------------------------------------------

CONVERSATION = (
    Message("system", "Be brief."),
    Message("user", "Weather in Rome?"),
    Message("assistant", "", (ToolCall("call_1", "weather", '{"city": "Rome"}'),)),
    Message("tool", "", call_id="call_1"),
)


@pytest.mark.parametrize("template", [None, "default"])
def test_a_template_without_tools_gets_them_as_text(template: str | None) -> None:
    tokenizer = byte_tokenizer() if template else byte_tokenizer(template=None)
    with LocalPolicyModel(random_qwen2(context=2048), tokenizer, name="tiny", engine="padded") as served:
        prompt = tokenizer.decode(served._prompt.encode(CONVERSATION, tools=(WEATHER,)), skip_special_tokens=False)
    assert prompt.index("Be brief.") < prompt.index('"name": "weather"') < prompt.index("Weather in Rome?")
    assert '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>' in prompt
    assert "<tool_response>\n\n</tool_response>" in prompt


HERMES = (
    "{% if tools %}TOOLS {% for t in tools %}{{ t | tojson }}{% endfor %}{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    '{% for c in m.tool_calls or [] %}<tool_call>\n{"name": "{{ c.function.name }}", "arguments": '
    "{{ c.function.arguments | tojson }}}\n</tool_call>{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_a_template_with_tools_writes_them_itself() -> None:
    tokenizer = byte_tokenizer(template=HERMES)
    with LocalPolicyModel(random_qwen2(context=2048), tokenizer, name="tiny", engine="padded") as served:
        ids = served._prompt.encode(CONVERSATION, tools=(WEATHER,))
        prompt = tokenizer.decode(ids, skip_special_tokens=False)
    assert prompt.startswith('TOOLS {"type": "function", "function": {"name": "weather"')
    assert '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>' in prompt
    assert "<|im_start|>tool\n<|im_end|>" in prompt
    assert "tool_response" not in prompt


def test_the_conversation_may_end_with_what_a_tool_gave(model: LocalPolicyModel) -> None:
    request = GenerationRequest(messages=CONVERSATION, tools=(WEATHER,), sampling=Sampling(max_tokens=3, seed=1))
    assert samples_of(model, request)[0].completion_tokens > 0
    refused = GenerationRequest(messages=(*CONVERSATION[:2], Message("user", "x", (ToolCall("1", "a", "{}"),))))
    assert "only the assistant calls" in error_of(model, refused)
