"""What of an answer is shown, and what it took: the same on the wire and in LangChain's messages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from kaelum_adapters.openai_api.exchange import FinishReason, Reply, Usage
from kaelum_graph.answer import Answer
from kaelum_graph.errors import ContextOverflow
from kaelum_graph.models.base import PolicyModel
from kaelum_graph.models.hermes import tool_json
from kaelum_graph.types import Message, Tool, ToolCall, ToolChoice

CHARACTERS_PER_TOKEN = 4
ESTIMATES_OFF_BY = 2
"""So many times too long may a model that can't count tokens take a conversation for."""


@dataclass(frozen=True, slots=True)
class _Rollout:
    tokens: int
    finish: str


@dataclass(slots=True)
class _Rollouts:
    """The rollouts of an answer, found by their text."""

    by_text: dict[str, _Rollout] = field(default_factory=dict[str, _Rollout])
    texts: dict[int, str] = field(default_factory=dict[int, str])
    fruitless: bool = False
    """Each was cut at its greatest length, and none was trusted."""

    @classmethod
    def of(cls, answer: Answer) -> _Rollouts:
        tried = (answer.trace or {}).get("rollouts") or ()
        return cls(
            {one["text"]: _Rollout(one["tokens"], one["finish"]) for one in tried},
            {one["id"]: one["text"] for one in tried},
            bool(tried) and answer.status == "unsure" and all(one["finish"] == "length" for one in tried),
        )

    def leading(self, answer: Answer) -> list[str]:
        """Distinct texts of the rollouts that gave an answer, those of the best answer first."""
        ids = [rollout for cluster in answer.alternatives for rollout in cluster.rollouts]
        return list(dict.fromkeys(self.texts[one] for one in ids if self.texts.get(one)))

    def tokens(self, text: str) -> int:
        found = self.by_text.get(text)
        return found.tokens if found else -(-len(text) // CHARACTERS_PER_TOKEN)

    def cut(self, text: str) -> bool:
        found = self.by_text.get(text)
        return self.fruitless if found is None else found.finish == "length"


def replies_of(answer: Answer, *, n: int = 1, stop: Sequence[str] = (), shaped: bool = False) -> tuple[Reply, ...]:
    """`n` choices: the answer, then the other best distinct ones, each up to the first of the stop strings.

    Where there are fewer answers, other rollouts that came to them follow, those of the best first, unless the answers
    are `shaped`, which rollouts are not; and at last the answer again. Calls are the same in all, under other ids.
    """
    if answer.calls:
        return tuple(
            Reply(index=index, text=answer.text, finish="tool_calls", calls=_calls_of(answer, index))
            for index in range(n)
        )
    rollouts = _Rollouts.of(answer)
    texts = [answer.text, *(choice.text for choice in answer.choices[1:])]
    if len(texts) < n and not shaped:
        texts += [text for text in rollouts.leading(answer) if text not in texts]
    texts += [answer.text] * (n - len(texts))
    return tuple(
        _reply(index, text, until(text, stop), cut=not shaped and rollouts.cut(text))
        for index, text in enumerate(texts[:n])
    )


def _calls_of(answer: Answer, index: int) -> tuple[ToolCall, ...]:
    """The calls of a choice, whose ids no other choice has: whoever goes on from several tells results by them."""
    return tuple(replace(call, id=f"{call.id}_{index}") if index else call for call in answer.calls)


def _reply(index: int, text: str, shown: str, *, cut: bool) -> Reply:
    finish: FinishReason = "length" if cut and shown == text else "stop"
    return Reply(index=index, text=shown, finish=finish)


def until(text: str, stop: Sequence[str]) -> str:
    """`text` before the first of the stop strings."""
    ends = [at for at in (text.find(one) for one in stop) if at >= 0]
    return text[: min(ends)] if ends else text


def counted(model: PolicyModel, messages: Sequence[Message], tools: Sequence[Tool], choice: ToolChoice) -> int:
    """Tokens of the conversation as the client sent it, with tools that may be called as the JSON that chat formats
    show them in. Blocks."""
    tokens = model.count_tokens(messages)
    if tools and choice.mode != "none":
        shown = "\n".join(json.dumps(tool_json(tool), ensure_ascii=False) for tool in tools)
        tokens += model.count_tokens([Message("system", shown)])
    return tokens


def prompt_length(model: PolicyModel, messages: Sequence[Message], tools: Sequence[Tool], choice: ToolChoice) -> int:
    """`counted`, by which clients keep their context; what the search read in all is in the answer's `cost`. Blocks.

    Raises `ContextOverflow` where it is certain that the conversation doesn't fit.
    """
    count, limit = counted(model, messages, tools, choice), model.capabilities.context_tokens
    if limit is not None and count > (limit if model.capabilities.exact_counts else ESTIMATES_OFF_BY * limit):
        raise ContextOverflow(limit_tokens=limit, prompt_tokens=count)
    return count


def usage_of(answer: Answer, replies: Sequence[Reply], *, prompt_tokens: int) -> Usage:
    """All generated tokens; those of them that are not shown were thought with."""
    rollouts = _Rollouts.of(answer)
    shown = sum(
        sum(rollouts.tokens(call.arguments) for call in reply.calls) if reply.calls else rollouts.tokens(reply.text)
        for reply in replies
    )
    completion = max(answer.cost.completion_tokens, shown)
    return Usage(prompt_tokens=prompt_tokens, completion_tokens=completion, reasoning_tokens=completion - shown)
