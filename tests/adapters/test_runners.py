"""The runners over a scripted model: what a search or the plain model makes of an ask, told event by event."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from kaelum_adapters.openai_api import direct_runner, search_runner
from kaelum_adapters.openai_api.app import create_app
from kaelum_adapters.openai_api.errors import ApiError
from kaelum_adapters.openai_api.exchange import Ask, Called, Finished, Piece, RunEvent, Started, Thought
from kaelum_adapters.openai_api.model_names import model_names
from kaelum_adapters.openai_api.runner import ModelRunner
from kaelum_adapters.openai_api.search_runner import split
from kaelum_flow.facade import Kaelum
from kaelum_graph.errors import ContextOverflow, KaelumError, UpstreamError
from kaelum_graph.models.base import (
    CancelToken,
    Capabilities,
    Delta,
    Generation,
    GenerationRequest,
    OnDelta,
    Sample,
)
from kaelum_graph.types import Message, Tool, ToolCall, ToolChoice
from tests.adapters.tiny_server import client_of
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import Script, ScriptedModel, always, cycle

USER = Message("user", "What is 2 + 2?")
WEATHER = Tool(name="weather", parameters={"type": "object", "properties": {"city": {"type": "string"}}})
CALL = ToolCall("call_1", "weather", '{"city": "Oslo"}')


def ask(model: str = "kaelum", *messages: Message, **fields: Any) -> Ask:
    return Ask(model=model, messages=messages or (USER,), **fields)


async def events_of(kaelum: Kaelum, given: Ask) -> list[RunEvent]:
    return [event async for event in ModelRunner(kaelum).run(given)]


def run_of(kaelum: Kaelum, given: Ask) -> AsyncGenerator[RunEvent]:
    return cast("AsyncGenerator[RunEvent]", ModelRunner(kaelum).run(given))


def text_of(events: Sequence[RunEvent], index: int = 0) -> str:
    return "".join(event.text for event in events if isinstance(event, Piece) and event.index == index)


def end_of(events: Sequence[RunEvent]) -> Finished:
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Finished)
    assert sum(isinstance(event, Started | Finished) for event in events) == 2
    for reply in events[-1].replies:
        assert text_of(events, reply.index) == reply.text
    return events[-1]


class Speaker(ScriptedModel):
    """A model whose `speak(request, on_delta, cancel)` gives the whole outcome of a request."""

    def __init__(
        self, speak: Callable[[GenerationRequest, OnDelta, CancelToken], Generation], *, exact: bool = False
    ) -> None:
        super().__init__(always("4"))
        self.speak = speak
        self.exact = exact
        self.cancelled = threading.Event()

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, context_tokens=100, exact_counts=self.exact)

    def generate(
        self,
        requests: Sequence[GenerationRequest],
        *,
        deadline: float | None = None,
        cancel: CancelToken | None = None,
        on_delta: OnDelta | None = None,
    ) -> list[Generation]:
        self.requests += requests
        return [self.speak(one, on_delta or (lambda _: None), cancel or CancelToken()) for one in requests]


@pytest.fixture
def over(make_kaelum: MakeKaelum) -> Callable[[ScriptedModel], Kaelum]:
    """`over(model)`: a Kaelum over that model."""

    def made(model: ScriptedModel, **settings: object) -> Kaelum:
        kaelum = make_kaelum(always("4"), **settings)
        kaelum.services._given["model"] = model
        return kaelum

    return made


def saying(*texts: str, final: str | None = None, **sample: Any) -> Callable[..., Generation]:
    """Each choice says `texts` one after the other; what it then turns out to have said is `final`."""

    def speak(request: GenerationRequest, on_delta: OnDelta, cancel: CancelToken) -> Generation:
        whole = "".join(texts) if final is None else final
        made = replace(Sample(text=whole, finish="stop", completion_tokens=len(texts)), **sample)
        for text in texts:
            for index in range(request.n):
                on_delta(Delta(request_id=request.request_id, index=index, text=text))
        return Generation(request_id=request.request_id, samples=(made,) * request.n, prompt_tokens=7)

    return speak


def failing(error: KaelumError, *texts: str) -> Callable[..., Generation]:
    def speak(request: GenerationRequest, on_delta: OnDelta, cancel: CancelToken) -> Generation:
        saying(*texts)(request, on_delta, cancel)
        return Generation(request_id=request.request_id, error=error)

    return speak


def until_cancelled(model: Callable[[], Speaker]) -> Callable[..., Generation]:
    """Says one word and then nothing, until it is cancelled."""

    def speak(request: GenerationRequest, on_delta: OnDelta, cancel: CancelToken) -> Generation:
        on_delta(Delta(request_id=request.request_id, index=0, text="word"))
        until = time.monotonic() + 20
        while not cancel.cancelled and time.monotonic() < until:
            time.sleep(0.005)
        if cancel.cancelled:
            model().cancelled.set()
        return Generation(
            request_id=request.request_id,
            samples=(Sample(text="word", finish="cancelled", completion_tokens=1),) * request.n,
        )

    return speak


# The plain model


async def test_the_plain_model_speaks_as_it_goes(over: Callable[..., Kaelum]) -> None:
    events = await events_of(over(Speaker(saying("It ", "is ", "4."))), ask("kaelum-direct", n=2))
    finished = end_of(events)
    assert [(reply.index, reply.text, reply.finish) for reply in finished.replies] == [
        (0, "It is 4.", "stop"),
        (1, "It is 4.", "stop"),
    ]
    assert (finished.usage.prompt_tokens, finished.usage.completion_tokens) == (7, 6)
    assert finished.usage.reasoning_tokens == 0
    assert finished.answer is None


async def test_a_slow_reader_gets_what_it_missed_in_one_piece(over: Callable[..., Kaelum]) -> None:
    run = run_of(over(Speaker(saying(*"abcdefghij"))), ask("kaelum-direct"))
    pieces: list[str] = []
    async for event in run:
        await asyncio.sleep(0.05)
        pieces += [event.text] if isinstance(event, Piece) else []
    assert "".join(pieces) == "abcdefghij"
    assert len(pieces) < 10


async def test_what_is_only_known_at_the_end_follows_and_nothing_comes_twice(over: Callable[..., Kaelum]) -> None:
    assert text_of(await events_of(over(Speaker(saying("It ", final="It is 4."))), ask("kaelum-direct"))) == "It is 4."
    # The blank was taken back: too late, but no reason to say it all again.
    assert text_of(await events_of(over(Speaker(saying("It ", final="It"))), ask("kaelum-direct"))) == "It "


async def test_the_plain_model_calls(over: Callable[..., Kaelum]) -> None:
    model = Speaker(saying(final="", calls=(CALL,)))
    events = await events_of(over(model), ask("kaelum-direct", tools=(WEATHER,)))
    assert [type(event) for event in events] == [Started, Called, Finished]
    assert end_of(events).replies[0].finish == "tool_calls"
    assert model.requests[0].tools == (WEATHER,)


async def test_how_a_reply_was_cut_is_told(over: Callable[..., Kaelum]) -> None:
    events = await events_of(over(Speaker(saying("It", finish="length"))), ask("kaelum-direct", max_tokens=1, top_k=3))
    assert end_of(events).replies[0].finish == "length"


async def test_sampling_reaches_the_plain_model_or_is_the_servers_own(over: Callable[..., Kaelum]) -> None:
    model = Speaker(saying("4"))
    kaelum = over(model, temperature=0.3, max_tokens=99)
    await events_of(kaelum, ask("kaelum-direct"))
    await events_of(kaelum, ask("kaelum-direct", temperature=0.0, max_tokens=5, top_k=3))
    first, second = (request.sampling for request in model.requests)
    assert (first.temperature, first.top_p, first.max_tokens, first.top_k) == (0.3, 0.95, 99, 0)
    assert (second.temperature, second.max_tokens, second.top_k) == (0.0, 5, 3)


async def test_a_failure_of_the_plain_model_comes_before_the_start_where_it_can(over: Callable[..., Kaelum]) -> None:
    broken = UpstreamError("hung up")
    run = run_of(over(Speaker(failing(broken))), ask("kaelum-direct"))
    with pytest.raises(UpstreamError):
        await anext(run)
    run = run_of(over(Speaker(failing(broken, "It "))), ask("kaelum-direct"))
    assert isinstance(await anext(run), Started)
    assert isinstance(await anext(run), Piece)
    with pytest.raises(UpstreamError):
        await anext(run)


async def test_a_model_that_gives_no_logprobs_says_so(over: Callable[..., Kaelum]) -> None:
    with pytest.raises(ApiError, match="logprobs: the model behind this server gives none"):
        await events_of(over(Speaker(saying(final="4"))), ask("kaelum-direct", logprobs=True))


async def test_a_slow_model_is_not_waited_for_without_a_sign(
    over: Callable[..., Kaelum], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct_runner, "PATIENCE_SECONDS", 0.05)
    model: list[Speaker] = []
    model.append(Speaker(lambda request, on_delta, cancel: until_cancelled(lambda: model[0])(request, quiet, cancel)))
    run = run_of(over(model[0]), ask("kaelum-direct"))
    async with asyncio.timeout(5):
        assert isinstance(await anext(run), Started)
    await run.aclose()
    assert await asyncio.to_thread(model[0].cancelled.wait, 5)


async def test_many_runs_are_at_work_at_once(over: Callable[..., Kaelum]) -> None:
    together = threading.Barrier(40)

    def speak(request: GenerationRequest, on_delta: OnDelta, cancel: CancelToken) -> Generation:
        together.wait(timeout=20)
        return saying("4")(request, on_delta, cancel)

    app = create_app(over(Speaker(speak)))
    body = {"model": "kaelum-direct", "messages": [{"role": "user", "content": "hi"}]}
    async with app.router.lifespan_context(app), client_of(app) as client:
        replies = await asyncio.gather(*(client.post("/v1/chat/completions", json=body) for _ in range(40)))
    assert {reply.status_code for reply in replies} == {200}


def quiet(delta: Delta) -> None:
    """Nobody is told."""


@pytest.mark.parametrize("name", ["kaelum-direct", "kaelum-math"])
async def test_who_leaves_cancels_the_model_at_once(over: Callable[..., Kaelum], name: str) -> None:
    model: list[Speaker] = []
    model.append(Speaker(until_cancelled(lambda: model[0])))
    run = run_of(over(model[0], cache=False), ask(name))
    assert isinstance(await anext(run), Started)
    async with asyncio.timeout(10):
        while not model[0].requests:
            await asyncio.sleep(0.01)
        await run.aclose()
        assert await asyncio.to_thread(model[0].cancelled.wait, 5)


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"effort": "high"}, "reasoning_effort"), ({"options": {"sims": 4}}, "kaelum.sims")],
)
async def test_the_plain_model_refuses_what_only_a_search_has(make_kaelum: MakeKaelum, fields: Any, param: str) -> None:
    with pytest.raises(ApiError) as caught:
        await events_of(make_kaelum(always("4")), ask("kaelum-direct", **fields))
    assert (caught.value.status, caught.value.param) == (400, param)


# The search


async def test_a_search_thinks_aloud_and_then_speaks(make_kaelum: MakeKaelum) -> None:
    events = await events_of(make_kaelum(always("2 + 2 = 4\nSo it is 4.\n\\boxed{4}")), ask())
    finished = end_of(events)
    kinds = [type(event) for event in events]
    assert kinds.index(Piece) > max(place for place, kind in enumerate(kinds) if kind is Thought)
    assert kinds.count(Piece) == 3
    thoughts = "".join(event.text for event in events if isinstance(event, Thought))
    assert "Routed to " in thoughts
    assert "leading with 100%: 4" in thoughts
    assert finished.answer is not None
    assert finished.story["id"] == finished.id == finished.answer.id == cast("Started", events[0]).id
    assert {
        "route",
        "worker",
        "cache",
        "confidence",
        "status",
        "stop_reason",
        "cost",
        "alternatives",
        "recorded",
    } <= set(finished.story)


async def test_a_quiet_search_says_that_it_is_at_work(make_kaelum: MakeKaelum, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_runner, "QUIET_SECONDS", 0.05)
    kaelum = make_kaelum(always("\\boxed{4}"), seconds=0.4)
    events = await events_of(kaelum, ask("kaelum-math", options={"sims": 1}))
    assert sum("Still at work" in event.text for event in events if isinstance(event, Thought)) >= 3


async def test_choices_that_are_wanting_are_further_rollouts(make_kaelum: MakeKaelum) -> None:
    script: Script = cycle("First: \\boxed{4}", "Second: \\boxed{4}", "Other: \\boxed{5}", "Third: \\boxed{4}")
    kaelum = make_kaelum(script, cache=False, early_stop=False)
    given = ask("kaelum-math", Message("user", "Pick."), n=3, options={"sims": 8})
    finished = end_of(await events_of(kaelum, given))
    texts = [reply.text for reply in finished.replies]
    assert len(set(texts)) == len(texts) == 3
    assert sum("\\boxed{5}" in text for text in texts) == 1
    # Nothing else was ever said: the rest repeats the answer.
    finished = end_of(await events_of(kaelum, replace(given, n=6)))
    texts = [reply.text for reply in finished.replies]
    assert (len(texts), len(set(texts))) == (6, 4)
    assert texts[-1] == texts[0]


async def test_an_answer_nobody_is_sure_of_is_told_as_such(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(lambda request, k: f"\\boxed{{{k}}}", cache=False)
    given = ask("kaelum-math", Message("user", "Guess."), options={"min_confidence": 0.99, "sims": 2})
    finished = end_of(await events_of(kaelum, given))
    assert finished.story["status"] == "unsure"
    assert finished.replies[0].finish == "stop"
    assert finished.replies[0].text


class Short(ScriptedModel):
    """Each of its texts is cut at `max_tokens`."""

    def _answer(self, request: GenerationRequest, on_delta: OnDelta | None) -> Generation:
        made = super()._answer(request, on_delta)
        return replace(made, samples=tuple(replace(one, finish="length") for one in made.samples))


async def test_a_cut_answer_says_so_unless_a_stop_string_ended_it_before(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always("4"), cache=False)
    kaelum.services._given["model"] = Short(always("Once upon a"))
    tale = Message("user", "A tale.")
    (reply,) = end_of(await events_of(kaelum, ask("kaelum-creative", tale, max_tokens=3))).replies
    assert reply.finish == "length"
    (reply,) = end_of(await events_of(kaelum, ask("kaelum-creative", tale, max_tokens=3, stop=("upon",)))).replies
    assert (reply.text, reply.finish) == ("Once ", "stop")


@pytest.mark.parametrize("text", ["17 * 23 = 17 * 20 + 17 * 3 = 340 + 51 and so", "First we multiply, and"])
async def test_where_every_rollout_was_cut_before_an_answer_that_is_told(make_kaelum: MakeKaelum, text: str) -> None:
    kaelum = make_kaelum(always("4"), cache=False)
    kaelum.services._given["model"] = Short(always(text))
    finished = end_of(await events_of(kaelum, ask("kaelum-math", Message("user", "What is 17 * 23?"), max_tokens=9)))
    assert finished.story["status"] == "unsure"
    assert finished.replies[0].finish == "length"
    assert "max_tokens" in " ".join([finished.replies[0].text, *finished.story["notices"]])
    assert "boxed" not in finished.replies[0].text


async def test_the_tools_count_as_part_of_the_prompt(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always("4"), cache=False)

    async def prompt_tokens(**fields: Any) -> int:
        return end_of(await events_of(kaelum, ask("kaelum-math", **fields))).usage.prompt_tokens

    tool = Tool(name="weather", description="word " * 50)
    alone = await prompt_tokens()
    assert await prompt_tokens(tools=(tool,)) >= alone + 50
    assert await prompt_tokens(tools=(tool,), tool_choice=ToolChoice(mode="none")) == alone


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"logprobs": True}, "logprobs"),
        ({"top_k": 5}, "top_k"),
        ({"frequency_penalty": 1.0}, "frequency_penalty"),
        ({"presence_penalty": 1.0}, "presence_penalty"),
        ({"logit_bias": ((1, 1.0),)}, "logit_bias"),
        ({"tools": (WEATHER,), "options": {"cache": True}}, "kaelum.cache"),
        ({"model": "kaelum-math", "options": {"worker": "code"}}, "kaelum.worker"),
    ],
)
async def test_a_search_refuses_what_it_cannot_honour(make_kaelum: MakeKaelum, fields: Any, param: str) -> None:
    with pytest.raises(ApiError) as caught:
        await events_of(make_kaelum(always("4")), replace(ask(), **fields))
    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize(
    ("exact", "words", "fits"), [(True, 101, False), (True, 99, True), (False, 150, True), (False, 201, False)]
)
async def test_a_conversation_that_is_too_long_is_refused_before_the_start(
    over: Callable[..., Kaelum], exact: bool, words: int, fits: bool
) -> None:
    model = Speaker(saying("\\boxed{4}"), exact=exact)
    run = run_of(over(model, cache=False), ask("kaelum-math", Message("user", "so " * words)))
    if fits:
        assert isinstance(await anext(run), Started)
        await run.aclose()
    else:
        with pytest.raises(ContextOverflow, match=f"length is 100 tokens; the messages have {words}"):
            await anext(run)


SYSTEM, HELLO = Message("system", "Be brief."), Message("assistant", "Hello.")
CALLED, RESULT = Message("assistant", "", calls=(CALL,)), Message("tool", "snow", call_id="call_1")


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ((USER,), ((), USER.content, ())),
        ((SYSTEM, USER, HELLO, Message("user", "And 3?")), ((SYSTEM, USER, HELLO), "And 3?", ())),
        ((USER, CALLED, RESULT), ((), USER.content, (CALLED, RESULT))),
        ((SYSTEM, USER, CALLED, RESULT, SYSTEM), ((SYSTEM, SYSTEM), USER.content, (CALLED, RESULT))),
        ((USER, SYSTEM), ((SYSTEM,), USER.content, ())),
        ((SYSTEM,), ((), SYSTEM.content, ())),
        ((SYSTEM, HELLO, SYSTEM), ((SYSTEM, HELLO), SYSTEM.content, ())),
    ],
)
def test_the_question_is_found_in_a_conversation(messages: tuple[Message, ...], expected: object) -> None:
    assert split(messages) == expected


@pytest.mark.parametrize(
    "messages", [(), (HELLO,), (SYSTEM, HELLO), (USER, HELLO), (Message("user", " "),), (USER, CALLED)]
)
def test_where_nobody_asks_there_is_no_question(messages: tuple[Message, ...]) -> None:
    with pytest.raises(ApiError) as caught:
        split(messages)
    assert caught.value.status == 400
    assert (caught.value.param or "").startswith("messages")


def test_every_worker_is_a_model(make_kaelum: MakeKaelum) -> None:
    workers = make_kaelum(always("4")).services.workers
    assert set(model_names()) == {"kaelum", "kaelum-direct", *(f"kaelum-{worker}" for worker in workers)}
