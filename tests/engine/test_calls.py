"""Tool calls checked and put to the vote."""

from __future__ import annotations

import json
import random
import string

import pytest

from kaelum_graph.calls import (
    NO_CALL,
    CallCandidate,
    CallRules,
    answered_calls,
    call_key,
    call_verdict,
    poll,
    turn_key,
    wordless_verdict,
)
from kaelum_graph.errors import UsageError
from kaelum_graph.models.base import Sample
from kaelum_graph.shapes_schema import SchemaCheck
from kaelum_graph.types import Json, Message, RolloutId, Tool, ToolCall, ToolChoice

WEATHER = Tool(
    name="weather",
    description="The weather now.",
    parameters={
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1}},
        "required": ["city"],
        "additionalProperties": False,
    },
)
CLOCK = Tool(name="clock")
RULES = CallRules((WEATHER, CLOCK), ToolChoice())


def call(name: str, arguments: object, *, id: str = "") -> ToolCall:
    return ToolCall(id, name, arguments if isinstance(arguments, str) else json.dumps(arguments))


def turn(*calls: ToolCall, text: str = "", finish: str = "stop") -> Sample:
    return Sample(text=text, finish=finish, completion_tokens=3, calls=calls)  # pyright: ignore[reportArgumentType]


def judged(*samples: Sample, rules: CallRules = RULES) -> list[CallCandidate]:
    return [rules.judge(sample, id=RolloutId(place), wave=1) for place, sample in enumerate(samples)]


def paris(**more: object) -> ToolCall:
    return call("weather", {"city": "Paris", **more})


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        (turn(call("wether", {})), "no tool 'wether'"),
        (turn(call("weather", "{")), "no JSON"),
        (turn(call("weather", '{"city": NaN}')), "no JSON"),
        (turn(call("weather", '{"city": "a", "days": 1e999}')), "no JSON"),
        (turn(call("weather", "[1]")), "no object"),
        (turn(call("weather", {})), "'city' is a required property"),
        (turn(call("weather", {"city": 3})), "$.city"),
        (turn(call("weather", {"city": "a", "days": 0})), "$.days"),
        (turn(call("weather", {"city": "a", "town": "b"})), "'town' is none of its properties"),
        (turn(call("clock", {"zone": "CET"})), "'zone'"),
        (turn(paris(), call("clock", "{")), "'clock' are no JSON"),
        (turn(paris(), finish="length"), "cut short"),
        (turn(text='<tool_call>\n{"name": "weather"'), "can't be read"),
        (turn(text='{"name": "rm", "arguments": {}}'), "no tool 'rm'"),
        (turn(text="  "), "empty"),
    ],
)
def test_a_turn_that_can_not_be_made_is_refuted_and_says_why(sample: Sample, said: str) -> None:
    (candidate,) = judged(sample)
    assert candidate.kind == "refuted"
    assert candidate.fault is not None
    assert said in candidate.fault
    assert "\n" not in candidate.fault


def test_what_is_valid_is_kept_as_plain_json_and_each_call_has_an_id_of_its_own() -> None:
    (candidate,) = judged(turn(call("weather", '{ "city":"Paris",\n"days": 2.0}', id="x"), call("clock", "", id="x")))
    assert candidate.kind == "call"
    assert [json.loads(one.arguments) for one in candidate.calls] == [{"city": "Paris", "days": 2.0}, {}]
    first, second = (one.id for one in candidate.calls)
    assert first == "x"
    assert second not in ("", "x")


def test_equal_calls_have_one_key_whatever_their_spelling() -> None:
    same = [
        call("weather", '{"city": "Paris", "days": 2}'),
        call("weather", '{"days": 2.0, "city": " Paris "}'),
    ]
    assert len({call_key(one) for one in same}) == 1
    others = [call("weather", {"city": "paris", "days": 2}), call("weather", {"city": "Paris", "days": "2"})]
    assert len({call_key(one) for one in [same[0], *others]}) == 3
    assert call_key(call("f", {"a": True})) != call_key(call("f", {"a": 1}))
    assert turn_key([same[0], others[0]]) == turn_key([others[0], same[1]])
    assert turn_key([same[0], same[0]]) != turn_key([same[0]])


def test_the_cluster_with_most_votes_leads_and_is_certain_once_it_is_unanimous() -> None:
    three = judged(*[turn(paris())] * 3, turn(call("clock", {})))
    result = poll(three, forced=False, has_results=False, remaining=4)
    assert (result.winner, result.share, result.certain) == ("call", 0.75, False)
    assert result.leader == 'weather({"city": "Paris"})'
    assert poll(judged(*[turn(paris())] * 4), forced=False, has_results=False, remaining=4).certain
    assert poll(three, forced=False, has_results=False, remaining=1).certain, "it can't be overtaken any more"


def test_whether_to_call_is_voted_on_before_what() -> None:
    messages = [turn(call("weather", {"city": f"City {number}"})) for number in range(3)]
    result = poll(judged(*messages, turn(text="No idea."), turn(text="None.")), forced=False, has_results=False)
    assert result.winner == "call", "three that differ in their wording are still three against two"
    result = poll(judged(*messages[:1], turn(text="a"), turn(text="b")), forced=False, has_results=False)
    assert (result.winner, result.leader) == ("text", NO_CALL)


def test_a_tie_calls_unless_results_are_there() -> None:
    both = judged(turn(paris()), turn(text="It is warm."))
    assert poll(both, forced=False, has_results=False).winner == "call"
    assert poll(both, forced=False, has_results=True).winner == "text"
    assert poll(both, forced=True, has_results=True).winner == "call"
    nothing = poll(judged(turn(text="")), forced=False, has_results=False)
    assert (nothing.winner, nothing.leader, nothing.share, nothing.certain) == (None, None, 0.0, False)


def test_of_calls_that_all_differ_the_one_nearest_to_the_others_leads() -> None:
    odd, near, also = {"city": "Rome", "days": 9}, {"city": "Paris", "days": 3}, {"city": "Paris", "days": 4}
    result = poll(judged(*(turn(call("weather", one)) for one in (odd, near, also))), forced=False, has_results=False)
    assert json.loads(result.groups[0][0].calls[0].arguments) == near


def test_the_usual_spelling_of_the_winning_call_is_given() -> None:
    padded, plain = turn(call("weather", {"city": "Paris "})), turn(paris())
    result = poll(judged(padded, plain, plain), forced=False, has_results=False)
    assert json.loads(result.groups[0][0].calls[0].arguments) == {"city": "Paris"}


def test_the_verdict_tells_agreement_apart_from_form() -> None:
    result = poll(
        judged(turn(paris(), text="I look it up."), turn(paris()), turn(paris()), turn(text="Warm.")),
        forced=False,
        has_results=False,
    )
    verdict = call_verdict(result, min_confidence=0.5)
    assert (verdict.status, verdict.text, verdict.answer) == ("unverified", "I look it up.", None)
    assert verdict.confidence == pytest.approx(4 / 6)
    assert [other.share for other in verdict.alternatives] == [0.75, 0.25]
    assert verdict.alternatives[1].answer == NO_CALL
    assert [vote.reason for vote in verdict.evidence] == ["the arguments of weather fit its schema"]
    assert call_verdict(result, min_confidence=0.8).status == "unsure"


def test_where_no_call_is_valid_the_words_are_given_with_the_reason() -> None:
    rules = CallRules((WEATHER,), ToolChoice(mode="required"))
    said = judged(turn(call("weather", {})), turn(text="<tool_call>{"), turn(text="It is warm."), rules=rules)
    verdict = wordless_verdict(said, reason="no valid call was found.")
    assert (verdict.status, verdict.text, verdict.confidence) == ("unsure", "It is warm.", 0.0)
    assert verdict.notices[0].startswith("no valid call was found.")
    assert wordless_verdict([], reason="nothing.").text == "No answer was reached: nothing."


def test_forced_calls_leave_no_room_for_words_or_for_another_tool() -> None:
    rules = CallRules((WEATHER, CLOCK), ToolChoice(name="clock"))
    kinds = [one.kind for one in judged(turn(call("clock", {})), turn(paris()), turn(text="Noon."), rules=rules)]
    assert kinds == ["call", "refuted", "refuted"]
    rules = CallRules((WEATHER, CLOCK), ToolChoice(parallel=False))
    kinds = [one.kind for one in judged(turn(paris()), turn(paris(), call("clock", {})), rules=rules)]
    assert kinds == ["call", "refuted"]


SINCE = (
    Message("assistant", "", calls=(paris(), call("clock", {}, id="c2"))),
    Message("tool", "18 degrees"),
    Message("tool", "noon", call_id="c2"),
)


def test_a_call_whose_result_is_there_is_not_made_again_unless_it_is_forced() -> None:
    rules = CallRules((WEATHER, CLOCK), ToolChoice(), SINCE)
    again, other, both = judged(
        turn(call("weather", {"city": "Paris "})),
        turn(call("weather", {"city": "Rome"})),
        turn(call("clock", {}), call("weather", {"city": "Rome"})),
        rules=rules,
    )
    assert again.kind == "refuted"
    assert again.fault is not None
    assert "called before" in again.fault
    assert other.kind == "call"
    assert [one.name for one in both.calls] == ["weather"]
    assert both.left_out == ("clock({})",)
    forced = CallRules((WEATHER, CLOCK), ToolChoice(mode="required"), SINCE)
    assert judged(turn(paris()), rules=forced)[0].kind == "call"


def test_results_name_the_calls_they_answer() -> None:
    assert [one.name for one in answered_calls(SINCE)] == ["weather", "clock"]
    swapped = (SINCE[0], SINCE[2], SINCE[1])
    assert [one.name for one in answered_calls(swapped)] == ["clock", "weather"]
    assert answered_calls(()) == answered_calls((Message("assistant", "Another agent said this."),)) == []
    for wrong, said in [
        ((SINCE[1],), "not made"),
        ((SINCE[0], SINCE[1]), "'c2' has no result"),
        ((SINCE[0], Message("tool", "x", call_id="c9")), "'c9'"),
        ((Message("user", "And now?"),), "user"),
        ((Message("system", "Be brief."),), "system"),
    ]:
        with pytest.raises(UsageError, match=said):
            answered_calls(wrong)


@pytest.mark.parametrize(
    ("tools", "choice", "said"),
    [
        ((Tool(name=""),), ToolChoice(), "no name"),
        ((CLOCK, CLOCK), ToolChoice(), "two tools"),
        ((CLOCK,), ToolChoice(name="weather"), "'weather'"),
        ((), ToolChoice(mode="required"), "no tools"),
        ((Tool(name="a", parameters={"type": "array"}),), ToolChoice(), "'array'"),
        ((Tool(name="a", parameters={"properties": 3}),), ToolChoice(), "tool 'a'.*properties"),
        ((Tool(name="a", parameters=[1]),), ToolChoice(), "tool 'a'.*list"),  # pyright: ignore[reportArgumentType]
    ],
)
def test_tools_that_make_no_sense_are_refused_at_once(tools: tuple[Tool, ...], choice: ToolChoice, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        CallRules(tools, choice)


def test_no_garbage_ever_passes_for_a_valid_call() -> None:
    """Whatever is thrown at the rules, what they let through names a tool and fits its schema, and nothing raises."""
    random_source = random.Random(7)
    check = SchemaCheck(WEATHER.parameters, owner="weather")
    pieces = ["{", "}", '"city"', ":", '"Paris"', ",", "[", "]", "1", "-0.5e3", "null", '"days"', " ", "\n", "\\", "é"]

    def arguments() -> str:
        kind = random_source.random()
        if kind < 0.2:
            return "".join(random_source.choices(string.printable, k=random_source.randint(0, 30)))
        if kind < 0.4:
            return "".join(random_source.choices(pieces, k=random_source.randint(1, 12)))
        values: list[object] = ["Paris", "", 3, 1.0, 1.5, -1, True, None, [], {"a": 1}, "\ud800"]
        names = random_source.sample(["days", "town", "City"], k=1)
        chosen: Json = {name: random_source.choice(values) for name in ["city", *names][: random_source.randint(0, 2)]}
        return json.dumps(chosen)

    passed = 0
    for number in range(3000):
        calls = tuple(
            ToolCall(
                random_source.choice(["", "a"]),
                random_source.choice(["weather", "clock", "", "x", "weather "]),
                arguments(),
            )
            for _ in range(random_source.randint(0, 2))
        )
        candidate = RULES.judge(turn(*calls, text=arguments()), id=RolloutId(number), wave=1)
        if candidate.kind != "call":
            continue
        passed += 1
        assert len({one.id for one in candidate.calls}) == len(candidate.calls)
        for one in candidate.calls:
            one.arguments.encode()
            value = json.loads(one.arguments)
            assert isinstance(value, dict)
            assert value == {} if one.name == "clock" else check.fault(value) is None
    assert passed > 50, "some of it was valid, or the test shows nothing"
