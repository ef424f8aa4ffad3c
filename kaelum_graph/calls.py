"""Which tools to call: candidate turns checked against the tools' schemas, then put to the vote.

A turn calls tools, or answers in words. A call that could not be made (an unknown tool, arguments that don't fit) is
refuted and never given. The rest vote twice: whether to call at all, then on what. Turns with equal calls are one
cluster; where all differ (a message's wording, say) the one that agrees with the others in most of its arguments leads.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

from pydantic import TypeAdapter

from kaelum_graph.answer import Alternative
from kaelum_graph.clusters import Cluster
from kaelum_graph.errors import UsageError
from kaelum_graph.evidence import FORM, Evidence, Tier
from kaelum_graph.models.base import Sample
from kaelum_graph.models.call_reader import new_call_id
from kaelum_graph.models.grammars import arguments_schema
from kaelum_graph.models.hermes import OPEN
from kaelum_graph.posterior import weigh
from kaelum_graph.shapes_schema import SchemaCheck, agreement, canonical, json_text, read_json, shortened
from kaelum_graph.stopping import leader_is_certain
from kaelum_graph.types import Candidate, Json, Message, RolloutId, Tool, ToolCall, ToolChoice, WorkerName
from kaelum_graph.verdict import Verdict

CALLER = WorkerName("call")
"""Stands in for the worker of an answer that calls tools: none was asked."""
NO_CALL = "an answer without a call"

Kind = Literal["call", "text", "refuted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallCandidate:
    """One sampled turn. `key` is equal for turns that call the same; `fault` says why a turn is refuted.

    `left_out` are its calls that were made before, whose results are there.
    """

    id: RolloutId
    wave: int
    kind: Kind
    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    key: str | None = None
    fault: str | None = None
    left_out: tuple[str, ...] = ()
    finish: str = "stop"
    completion_tokens: int = 0


CANDIDATES = TypeAdapter(list[CallCandidate])


def must_call(choice: ToolChoice) -> bool:
    """Whether the caller wants a call, whatever the model would rather do."""
    return choice.mode == "required" or choice.name is not None


def may_call(tools: Sequence[Tool], choice: ToolChoice) -> bool:
    """Whether any tool may be called."""
    return bool(tools) and (choice.mode != "none" or choice.name is not None)


class CallRules:
    """What a turn that calls must keep to. Raises `UsageError` for tools, or a choice, that make no sense.

    `since` are the turns after the question: a call that was made in them and has its result is not made again, unless
    the choice forces calls.
    """

    def __init__(self, tools: Sequence[Tool], choice: ToolChoice, since: Sequence[Message] = ()) -> None:
        names = [tool.name for tool in tools]
        if not all(names):
            raise UsageError("a tool has no name.")
        if doubled := [name for name, count in Counter(names).items() if count > 1]:
            raise UsageError(f"two tools are named '{doubled[0]}'; names must differ.")
        if choice.name is not None and choice.name not in names:
            raise UsageError(f"tool_choice names '{choice.name}'; the tools are: {', '.join(names) or 'none'}.")
        if must_call(choice) and not names:
            raise UsageError("tool_choice wants a call, and there are no tools.")
        self._choice = choice
        self._checks = {tool.name: _check_of(tool) for tool in tools}
        made = () if must_call(choice) else answered_calls(since)
        self._made = {call_key(call) for call in made}

    def judge(self, sample: Sample, *, id: RolloutId, wave: int) -> CallCandidate:
        """A sampled turn with what there is against it. The arguments of a valid call are rewritten as plain JSON."""
        candidate = CallCandidate(
            id=id,
            wave=wave,
            kind="refuted",
            text=sample.text,
            calls=sample.calls,
            finish=sample.finish,
            completion_tokens=sample.completion_tokens,
        )
        if not sample.calls:
            fault = self._fault_of_text(sample.text)
            return replace(candidate, kind="refuted" if fault else "text", fault=fault)
        if sample.finish != "stop":
            # A call that is whole may be the first of several.
            return replace(candidate, fault=f"the turn was cut short ({sample.finish})")
        calls: list[ToolCall] = []
        for call in sample.calls:
            try:
                calls.append(self._checked(call))
            except ValueError as error:
                return replace(candidate, fault=str(error))
        if not self._choice.parallel and len(calls) > 1:
            return replace(candidate, fault="it makes several calls at once, which are not wanted")
        new = [call for call in calls if call_key(call) not in self._made]
        left_out = tuple(spelled((call,)) for call in calls if call_key(call) in self._made)
        if not new:
            return replace(
                candidate, left_out=left_out, fault=f"{left_out[0]} was called before, and its result is there"
            )
        kept = _told_apart(new)
        return replace(candidate, kind="call", calls=kept, key=turn_key(kept), left_out=left_out)

    def _checked(self, call: ToolCall) -> ToolCall:
        """The call with its arguments as plain JSON. Raises `ValueError` saying what is wrong with it."""
        check = self._checks.get(call.name)
        if check is None:
            raise ValueError(f"there is no tool '{shortened(call.name)}'")
        if self._choice.name is not None and call.name != self._choice.name:
            raise ValueError(f"'{call.name}' was called, '{self._choice.name}' is wanted")
        try:
            arguments: object = read_json(call.arguments) if call.arguments.strip() else {}
        except ValueError as error:
            raise ValueError(f"the arguments of '{call.name}' are no JSON: {shortened(str(error))}") from error
        if not isinstance(arguments, dict):
            raise ValueError(f"the arguments of '{call.name}' are no object")
        if fault := check.fault(cast("Json", arguments)):
            raise ValueError(f"the arguments of '{call.name}' don't fit: {fault}")
        return replace(call, arguments=json_text(cast("Json", arguments)))

    def _fault_of_text(self, text: str) -> str | None:
        if must_call(self._choice):
            return "it calls nothing"
        if not text.strip():
            return "the turn is empty"
        if OPEN in text:
            return "it holds a call that can't be read"
        try:
            value = read_json(text)
        except ValueError:
            return None
        if isinstance(value, dict) and {"name", "arguments"} <= cast("Json", value).keys():
            return f"there is no tool '{shortened(str(value['name']))}'"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Poll:
    """How the vote stands. `winner` leads: "call" the first of `groups`, "text" answering in words, None nothing.

    `groups` are the clusters of valid calls, the leading one first, its representative first; `certain`: no more
    samples are needed.
    """

    winner: Literal["call", "text"] | None
    groups: tuple[tuple[CallCandidate, ...], ...]
    texts: tuple[CallCandidate, ...]
    certain: bool

    @property
    def leader(self) -> str | None:
        """What leads, in words."""
        if self.winner == "call":
            return spelled(self.groups[0][0].calls)
        return NO_CALL if self.winner == "text" else None

    @property
    def share(self) -> float:
        """The leader's part of the turns that are not refuted; 0 without one."""
        voting = sum(map(len, self.groups)) + len(self.texts)
        leading = len(self.groups[0]) if self.winner == "call" else len(self.texts)
        return leading / voting if self.winner and voting else 0.0


def poll(candidates: Sequence[CallCandidate], *, forced: bool, has_results: bool, remaining: int = 0) -> Poll:
    """The vote so far, with `remaining` samples that may yet be drawn.

    On a tie between calling and answering, tools are called; where results are there already (`has_results`), not.
    """
    texts = tuple(one for one in candidates if one.kind == "text")
    clusters: dict[str, list[CallCandidate]] = {}
    for one in candidates:
        if one.kind == "call" and one.key is not None:
            clusters.setdefault(one.key, []).append(one)
    calling = sum(map(len, clusters.values()))
    values = {
        key: [[call.name, read_json(call.arguments)] for call in group[0].calls] for key, group in clusters.items()
    }
    weights = [key for key, group in clusters.items() for _ in group]
    usual = dict(zip(weights, agreement([values[key] for key in weights]), strict=True)) if weights else {}
    ordered = sorted(clusters, key=lambda key: (-len(clusters[key]), -round(usual[key], 9), clusters[key][0].id))
    groups = tuple(_by_form(clusters[key]) for key in ordered)
    wins = calling > 0 and (forced or calling > len(texts) or (calling == len(texts) and not has_results))
    winner = "call" if wins else "text" if texts else None

    def settled(leader: int, runner_up: int) -> bool:
        return leader_is_certain(leader, runner_up) or leader - runner_up > remaining

    certain = winner is not None and (forced or settled(max(calling, len(texts)), min(calling, len(texts))))
    if winner == "call":
        certain = certain and settled(len(groups[0]), len(groups[1]) if len(groups) > 1 else 0)
    return Poll(winner=winner, groups=groups, texts=texts, certain=certain)


def call_verdict(result: Poll, *, min_confidence: float) -> Verdict:
    """The verdict of a vote that tools are called: the confidence is what the agreement of the samples is worth.

    That the arguments fit their schema speaks for the form alone, so it doesn't raise it.
    """
    chosen = result.groups[0][0]
    voting = [one for group in (*result.groups, result.texts) for one in group]
    places = {one.id: place for place, one in enumerate(voting)}
    clusters = [
        Cluster(spelled(group[0].calls) if group[0].calls else NO_CALL, tuple(places[one.id] for one in group))
        for group in (*result.groups, result.texts)
        if group
    ]
    turns = [Candidate(rollout_id=one.id, worker=CALLER, text=one.text, answer=one.key or NO_CALL) for one in voting]
    standings = {each.cluster: each for each in weigh(clusters, turns, [()] * len(turns))}
    leading = standings[clusters[0]]
    checked = dict.fromkeys(f"the arguments of {call.name} fit its schema" for call in chosen.calls)
    return Verdict(
        passed=True,
        status="unverified" if leading.confidence >= min_confidence else "unsure",
        text=chosen.text,
        answer=None,
        confidence=leading.confidence,
        worker=CALLER,
        evidence=tuple(
            Evidence(tier=Tier.CONSTRAINT, source=FORM, outcome="pass", reason=reason) for reason in checked
        ),
        alternatives=tuple(
            Alternative(
                answer=group.representative,
                share=standings[group].share,
                confidence=standings[group].confidence,
                rollouts=tuple(voting[place].id for place in group.members),
            )
            for group in clusters
        ),
    )


def wordless_verdict(candidates: Sequence[CallCandidate], *, reason: str) -> Verdict:
    """The verdict where no call can be given and nothing more may be spent: what the model said, marked as unsure."""
    said = [one for one in candidates if not one.calls and one.text.strip()]
    plain = [one for one in said if OPEN not in one.text] or said
    faults = Counter(one.fault for one in candidates if one.fault)
    why = f" Most often, {faults.most_common(1)[0][0]}." if faults else ""
    text = plain[0].text if plain else f"No answer was reached: {reason}{why}"
    return Verdict(
        passed=False,
        status="unsure",
        text=text,
        answer=None,
        confidence=0.0,
        worker=CALLER,
        reasons=tuple(fault for fault, _ in faults.most_common(3) if fault),
        notices=(f"{reason}{why}",),
    )


def answered_calls(since: Sequence[Message]) -> list[ToolCall]:
    """The calls in `since` that have a result. Raises `UsageError` for a result of no call, or a call without one.

    A result that names no call is that of the earliest call still waiting.
    """
    waiting: dict[str, ToolCall] = {}
    answered: list[ToolCall] = []
    for message in since:
        if message.role == "tool":
            name = message.call_id or next(iter(waiting), "")
            if name not in waiting:
                raise UsageError(f"a tool's result answers the call '{shortened(name)}', which was not made before it.")
            answered.append(waiting.pop(name))
        elif message.role != "assistant":
            raise UsageError(f"after the question there is a turn of the {message.role}; expected assistant and tool.")
        elif waiting:
            break
        else:
            waiting = {call.id or f"call {place}": call for place, call in enumerate(message.calls)}
    if waiting:
        raise UsageError(f"the call '{shortened(next(iter(waiting)))}' has no result.")
    return answered


def call_key(call: ToolCall) -> str:
    """Text that is equal for calls of the same tool with the same arguments."""
    try:
        arguments: object = read_json(call.arguments) if call.arguments.strip() else {}
    except ValueError:
        arguments = call.arguments
    return canonical([call.name, arguments])


def turn_key(calls: Sequence[ToolCall]) -> str:
    """Text that is equal for turns with the same calls. Calls of one turn have no order among them."""
    return "\n".join(sorted(call_key(call) for call in calls))


def spelled(calls: Sequence[ToolCall]) -> str:
    """Calls in words, for a person: `weather({"city": "Paris"})`."""
    return "; ".join(f"{call.name}({shortened(call.arguments)})" for call in calls)


def calls_json(calls: Sequence[ToolCall]) -> list[Json]:
    """Calls as plain JSON."""
    return [dataclasses.asdict(call) for call in calls]


def _by_form(group: Sequence[CallCandidate]) -> tuple[CallCandidate, ...]:
    """Turns with equal calls: the most frequent way to write them first, in the order in which they came."""
    forms = {one.id: "\n".join(f"{call.name}{call.arguments}" for call in one.calls) for one in group}
    counts = Counter(forms.values())
    return tuple(sorted(group, key=lambda one: (-counts[forms[one.id]], one.id)))


def _told_apart(calls: Sequence[ToolCall]) -> tuple[ToolCall, ...]:
    """The calls, each with an id of its own: a result names the call that it answers."""

    def renamed() -> Iterator[ToolCall]:
        known: set[str] = set()
        for call in calls:
            name = new_call_id() if not call.id or call.id in known else call.id
            known.add(name)
            yield replace(call, id=name)

    return tuple(renamed())


def _check_of(tool: Tool) -> SchemaCheck:
    owner = f"tool '{tool.name}'"
    return SchemaCheck(arguments_schema(tool) if isinstance(tool.parameters, dict) else tool.parameters, owner=owner)
