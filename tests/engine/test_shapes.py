"""JSON schemas that callers give, and texts that must fit them."""

from __future__ import annotations

import json
import socket
import time

import pytest

from kaelum_graph.errors import UsageError
from kaelum_graph.shapes import Draft, ShapeRules
from kaelum_graph.shapes_schema import SchemaCheck, agreement, canonical, json_text, read_json
from kaelum_graph.types import Json, Message, Query, Shape

PERSON: Json = {
    "type": "object",
    "properties": {"name": {"type": "string", "description": "in capitals"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}
RULES = ShapeRules(Shape(kind="json_schema", name="person", schema=PERSON))
ANY = ShapeRules(Shape(kind="json_object"))


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "objekt"}, "objekt"),
        ({"properties": {"a": {"minimum": "3"}}}, "minimum"),
        ({"$ref": "#/$defs/gone"}, "gone"),
        ({"properties": {"a": {"$ref": "https://example.com/a.json"}}}, "example.com"),
        ({"properties": {"a": {"pattern": "(unclosed"}}}, "no regular expression"),
        ({"patternProperties": {"a": {}}, "items": {"unevaluatedProperties": False}}, "not supported"),
        ({"const": float("nan")}, "not valid"),
        (3, "int"),
    ],
)
def test_what_is_no_schema_is_refused_in_one_line(schema: Json, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        SchemaCheck(schema, owner="it")
    assert "\n" not in str(caught.value)


def test_a_schema_nested_without_end_is_refused() -> None:
    deep: Json = {}
    for _ in range(5000):
        deep = {"items": deep}
    with pytest.raises(UsageError, match="not valid"):
        SchemaCheck(deep, owner="it")
    endless = SchemaCheck({"$ref": "#"}, owner="it")
    with pytest.raises(UsageError, match="without end"):
        endless.fault({})


def test_references_are_followed_inside_the_schema_and_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_socket(*args: object) -> None:
        raise AssertionError("a schema made the checker reach out")

    monkeypatch.setattr(socket.socket, "connect", no_socket)
    tree: Json = {
        "$defs": {"n": {"type": "object", "properties": {"next": {"$ref": "#/$defs/n"}}}},
        "$ref": "#/$defs/n",
    }
    check = SchemaCheck(tree, owner="it")
    assert check.fault({"next": {"next": {}}}) is None
    assert "$.next.next" in (check.fault({"next": {"next": 3}}) or "")
    with pytest.raises(UsageError, match="127"):
        SchemaCheck({"$ref": "http://127.0.0.1:9/x"}, owner="it")


def test_older_drafts_are_read_as_such() -> None:
    old: Json = {"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "integer"}]}
    assert SchemaCheck(old, owner="it").fault([1]) is None
    assert SchemaCheck(old, owner="it").fault(["a"]) is not None
    with pytest.raises(UsageError):
        SchemaCheck({"items": [{"type": "integer"}]}, owner="it")
    unknown: Json = {"$schema": "https://example.com/mine", "type": "object"}
    assert SchemaCheck(unknown, owner="it").fault(3) is not None


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {"type": "string", "pattern": "^(a|aa)+$"}}},
        {"patternProperties": {"^(a|aa)+$": {"type": "integer"}}},
        {"patternProperties": {"^(a|aa)+$": {}}, "additionalProperties": False},
    ],
)
def test_a_pattern_that_takes_for_ever_is_given_up_on(schema: Json) -> None:
    long = "a" * 40 + "!"
    began = time.monotonic()
    fault = SchemaCheck(schema, owner="it").fault({"a": long, long: "x"})
    assert time.monotonic() - began < 5
    assert fault is not None


def test_patterns_name_properties() -> None:
    schema: Json = {
        "properties": {"id": {}},
        "patternProperties": {r"^x_\p{L}": {"type": "integer"}},
        "additionalProperties": {"type": "string"},
    }
    check = SchemaCheck(schema, owner="it")
    assert check.fault({"id": None, "x_a": 1, "other": "text"}) is None
    assert check.fault({"x_a": "1"}) is not None
    assert check.fault({"other": 1}) is not None


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "1e999", "{'a': 1}", "", "[" * 90 + "]" * 90, "[" * 200_000])
def test_only_json_is_json(text: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        read_json(text)
    assert "\n" not in str(caught.value)


def test_values_that_say_the_same_have_one_canonical_text() -> None:
    assert canonical({"a": 1.0, "b": [" x "]}) == canonical({"b": ["x"], "a": 1})
    assert canonical(True) != canonical(1)
    assert canonical("1") != canonical(1)
    assert canonical([1, 2]) != canonical([2, 1])
    assert json.loads(json_text({"a": "\ud800", "b": "é"})) == {"a": "\ud800", "b": "é"}
    json_text({"a": "\ud800"}).encode()


def test_agreement_finds_the_value_nearest_to_the_others() -> None:
    assert agreement([{"a": 1, "b": 2}] * 2) == [1.0, 1.0]
    odd, near, also = agreement([{"a": 9, "b": 9}, {"a": 1, "b": 2}, {"a": 1, "b": 3}])
    assert odd < near == also
    assert agreement([{}, [], ""]) == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "ANN", "age": 3}',
        'Here it is:\n```json\n{"name": "ANN", "age": 3}\n```\nDone.',
        'The answer {"name": "ANN", "age": 3} is final.',
        '[1, 2]\n```\n{"name": "ANN", "age": 3}\n```',
    ],
)
def test_json_is_found_in_what_a_model_says_around_it(text: str) -> None:
    assert RULES.read(text) == {"name": "ANN", "age": 3}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("No.", "no JSON"),
        ('{"name": "A"}', "'age'"),
        ('{"name": "A", "age": "3"}', r"\$.age"),
        ('{"name": "A"', "no JSON"),
    ],
)
def test_what_does_not_fit_says_why(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        RULES.read(text)
    with pytest.raises(ValueError, match="no JSON object"):
        ANY.read("[1]")
    assert ANY.read("{}") == {}


def test_the_form_that_most_agree_on_is_chosen() -> None:
    texts = ['{"name": "B", "age": 1}', '{"age": 2, "name": "A"}', '{"name": "A ", "age": 2.0}', "nothing", "{}"]
    shaped, fault = RULES.choose(texts)
    assert shaped is not None
    assert json.loads(shaped.text) == {"name": "A", "age": 2}
    assert shaped.share == pytest.approx(2 / 3)
    assert "no JSON" in fault
    assert RULES.choose(["", "x"])[0] is None
    assert RULES.choose([]) == (None, "the model gave nothing")


def test_the_model_sees_conversation_draft_and_what_the_fields_mean() -> None:
    query = Query(
        text="Who?", history=(Message("system", "Be brief."), Message("user", "Hi."), Message("assistant", "Hi."))
    )
    messages = RULES.messages(query, Draft(text="It is Ann, who is 3.", answer="Ann"), fault="'age' is missing")
    assert [message.role for message in messages] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert messages[-2].content == "It is Ann, who is 3."
    for part in ("in capitals", "The final answer is: Ann", "'age' is missing"):
        assert part in messages[-1].content
    assert [message.role for message in ANY.messages(Query(text="Who?"), Draft())] == ["user", "user"]


def test_a_shape_without_its_schema_is_refused() -> None:
    with pytest.raises(UsageError, match="without a schema"):
        ShapeRules(Shape(kind="json_schema", name="a"))
    with pytest.raises(UsageError, match="'xml'"):
        ShapeRules(Shape(kind="xml"))  # pyright: ignore[reportArgumentType]
