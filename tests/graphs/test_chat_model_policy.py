"""Any LangChain chat model as a policy model, the awkward ones among them."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.exceptions import ContextOverflowError, ModelAuthenticationError
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import BaseChatModel, base
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import SecretStr

from kaelum_flow.chat_model_policy import ChatModelPolicy
from kaelum_graph.errors import ContextOverflow, ModelError, UpstreamError
from kaelum_graph.models.base import Delta, Generation, GenerationRequest, Sampling
from kaelum_graph.types import Message
from tests.graphs.parrot_chat_model import ParrotChatModel

Wrap = Callable[..., ChatModelPolicy]


@pytest.fixture
def wrap() -> Iterator[Wrap]:
    """Makes policies and closes them."""
    made: list[ChatModelPolicy] = []

    def make(chat_model: BaseChatModel, **options: Any) -> ChatModelPolicy:
        made.append(ChatModelPolicy(chat_model, **options))
        return made[-1]

    yield make
    for policy in made:
        policy.close()


def ask(prompt: str = "Please say 5", *, n: int = 1, partial_answer: str = "", **sampling: Any) -> GenerationRequest:
    return GenerationRequest(
        messages=(Message("user", prompt),), partial_answer=partial_answer, n=n, sampling=Sampling(**sampling)
    )


def texts_of(generations: list[Generation]) -> list[str]:
    assert [generation.error for generation in generations] == [None] * len(generations)
    return [sample.text for generation in generations for sample in generation.samples]


class PlainChatModel(BaseChatModel):
    """Neither streams nor takes settings by any name that is known."""

    answers: list[str]

    @property
    def _llm_type(self) -> str:
        return "plain"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(self.answers[0]))])


class AsyncOnlyChatModel(PlainChatModel):
    """Has asynchronous methods alone."""

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        raise NotImplementedError

    async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        for word in self.answers:
            yield ChatGenerationChunk(message=AIMessageChunk(content=word))


class CountingChatModel(PlainChatModel):
    """Counts tokens by itself, unless it cannot."""

    seconds: float = 0.0
    falls_back: bool = False

    def get_num_tokens(self, text: str) -> int:
        time.sleep(self.seconds)
        return len(self.get_token_ids(text)) if self.falls_back else len(text.split())


def test_samples_are_parallel_calls(wrap: Wrap) -> None:
    chat_model = ParrotChatModel(word_seconds=0.02)
    policy = wrap(chat_model, max_parallel=3)
    samples = texts_of(policy.generate([ask(n=4), ask(n=2)]))
    assert (len(samples), len(set(samples))) == (6, 6)
    assert chat_model.notes.most_running == 3
    assert policy.name == "parrot"
    assert wrap(chat_model, name="mine").name == "mine"


def test_settings_reach_the_model(wrap: Wrap) -> None:
    chat_model = ParrotChatModel(temperature=0.2, max_tokens=99)
    wrap(chat_model).generate([ask(temperature=0.9, top_p=0.5, top_k=7, max_tokens=3, seed=4, stop=tuple("abcdef"))])
    (call,) = chat_model.notes.calls
    assert {key: call[key] for key in ("temperature", "top_p", "top_k", "max_tokens", "logprobs")} == {
        "temperature": 0.9, "top_p": 0.5, "top_k": 7, "max_tokens": 3, "logprobs": True
    }  # fmt: skip
    assert isinstance(call["seed"], int)
    assert call["stop"] == ["a", "b", "c", "d"]
    assert (chat_model.temperature, chat_model.max_tokens) == (0.2, 99), "the caller's model was changed"


@pytest.mark.parametrize("refused", ["temperature", "top_p", "top_k", "max_tokens", "seed", "stop", "logprobs"])
def test_a_refused_setting_is_left_out_from_then_on(wrap: Wrap, refused: str) -> None:
    chat_model = ParrotChatModel(refuses=frozenset({refused}))
    policy = wrap(chat_model)
    request = ask(temperature=0.9, top_p=0.5, top_k=7, max_tokens=3, seed=4, stop=("~",))
    for _ in range(2):
        assert len(texts_of(policy.generate([request]))) == 1
    assert [call.get(refused) is not None for call in chat_model.notes.calls] == [True, False, False]
    assert policy.capabilities.seed == (refused != "seed")
    assert policy.capabilities.logprobs == (refused != "logprobs")


def test_a_cache_does_not_make_samples_equal(wrap: Wrap) -> None:
    set_llm_cache(InMemoryCache())
    try:
        chat_model = ParrotChatModel(disable_streaming=True)
        assert chat_model.invoke("Hello").content == chat_model.invoke("Hello").content, "the cache is not at work"
        samples = texts_of(wrap(chat_model).generate([ask(n=4)]))
        assert len(set(samples)) == 4
    finally:
        set_llm_cache(None)


def test_a_model_that_does_not_stream(wrap: Wrap) -> None:
    deltas: list[Delta] = []
    policy = wrap(PlainChatModel(answers=["one two END three"]))
    (generation,) = policy.generate([ask(n=2, stop=("END",))], on_delta=deltas.append)
    assert texts_of([generation]) == ["one two ", "one two "]
    assert [sample.finish for sample in generation.samples] == ["stop", "stop"]
    assert len(deltas) == 2
    assert not policy.capabilities.seed


def test_a_model_with_asynchronous_methods_alone(wrap: Wrap) -> None:
    policy = wrap(AsyncOnlyChatModel(answers=["one", " two"]))
    assert texts_of(policy.generate([ask(n=2), ask()])) == ["one two"] * 3


def test_reasoning_blocks_are_no_text(wrap: Wrap) -> None:
    (text,) = texts_of(wrap(ParrotChatModel(blocks=True)).generate([ask()]))
    assert re.fullmatch(r"w\d{3}( w\d{3}){4}", text)


@pytest.mark.parametrize("honours_stop", [True, False])
def test_stop_strings_are_enforced(wrap: Wrap, honours_stop: bool) -> None:
    policy = wrap(ParrotChatModel(honours_stop=honours_stop))
    (whole,) = texts_of(policy.generate([ask(temperature=0)]))
    stop = (*(f"never{at}" for at in range(4)), whole[6:9])
    assert texts_of(policy.generate([ask(temperature=0, stop=stop)])) == [whole[:6]]


def test_usage_and_finish_are_read(wrap: Wrap) -> None:
    policy = wrap(ParrotChatModel(shows_logprobs=False))
    whole, cut = policy.generate([ask(), ask(max_tokens=3)])
    assert (whole.samples[0].finish, whole.samples[0].completion_tokens, whole.prompt_tokens) == ("stop", 5, 6)
    assert (cut.samples[0].finish, cut.samples[0].completion_tokens) == ("length", 3)
    assert whole.samples[0].token_logprobs is None
    assert not policy.capabilities.logprobs


def test_log_probabilities_are_read(wrap: Wrap) -> None:
    policy = wrap(ParrotChatModel())
    (sample,) = policy.generate([ask()])[0].samples
    assert sample.token_logprobs == (-0.25,) * 5
    assert sample.token_texts is not None
    assert "".join(sample.token_texts) == sample.text


def test_a_true_continuation_is_found_out(wrap: Wrap) -> None:
    chat_model = ParrotChatModel(continues=True)
    policy = wrap(chat_model)
    (whole,) = texts_of(policy.generate([ask(temperature=0)]))
    assert texts_of(policy.generate([ask(partial_answer=whole[:7], temperature=0)])) == [whole[7:]]
    assert policy.capabilities.continuation
    assert chat_model.notes.calls[-1]["messages"][-1] == AIMessage(whole[:7])


@pytest.mark.parametrize("echoes_draft", [True, False])
def test_without_continuation_the_draft_goes_into_the_prompt(wrap: Wrap, echoes_draft: bool) -> None:
    chat_model = ParrotChatModel(echoes_draft=echoes_draft)
    policy, partial = wrap(chat_model), "First, we add.\nThen we"
    deltas: list[Delta] = []
    (text,) = texts_of(policy.generate([ask(partial_answer=partial)], on_delta=deltas.append))
    assert re.fullmatch(r"w\d{3}( w\d{3}){4}", text)
    assert "".join(delta.text for delta in deltas) == text
    assert not policy.capabilities.continuation
    assert partial in chat_model.notes.calls[-1]["messages"][-1].content


def test_one_failing_request_fails_alone(wrap: Wrap) -> None:
    first, wrong, third = wrap(ParrotChatModel()).generate([ask(), ask("POISON", n=2), ask()])
    assert len(texts_of([first, third])) == 2
    assert isinstance(wrong.error, UpstreamError)
    assert "This prompt cannot be served." in str(wrong.error)
    assert "This prompt" not in wrong.error.without_quotation
    assert isinstance(wrong.error.__cause__, ValueError)


@pytest.mark.parametrize("error", [ModelAuthenticationError("bad key sk-secret"), ConnectionRefusedError("no one")])
def test_a_lost_provider_raises(wrap: Wrap, error: Exception) -> None:
    chat_model = ParrotChatModel(fails_with=[error] * 20, api_key=SecretStr("sk-secret"))
    policy = wrap(chat_model, max_parallel=2)
    with pytest.raises(UpstreamError, match="parrot is out of reach") as caught:
        policy.generate([ask(n=8), ask(n=8)])
    assert "sk-secret" not in str(caught.value)
    assert len(chat_model.notes.calls) < 16, "requests went on to a provider known to be lost"


@pytest.mark.parametrize(
    ("error", "numbers"),
    [
        (ContextOverflowError("too long"), (0, 8)),
        (ValueError("This model's maximum context length is 512 tokens; the messages have 600"), (512, 600)),
    ],
)
def test_a_context_overflow(wrap: Wrap, error: Exception, numbers: tuple[int, int]) -> None:
    (generation,) = wrap(ParrotChatModel(fails_with=[error])).generate([ask()])
    assert isinstance(generation.error, ContextOverflow)
    assert (generation.error.limit_tokens, generation.error.prompt_tokens) == numbers


def test_a_model_that_hangs_does_not_hold_up_the_deadline(wrap: Wrap) -> None:
    policy = wrap(ParrotChatModel(hangs_after=2, hang_seconds=3), max_parallel=2)
    started = time.monotonic()
    (generation,) = policy.generate([ask(n=3)], deadline=started + 0.3)
    assert time.monotonic() - started < 1.5
    assert [sample.finish for sample in generation.samples] == ["deadline"] * 3
    assert [len(sample.text.split()) for sample in generation.samples] == [2, 2, 0]
    policy.close()
    assert time.monotonic() - started < 2.5


def test_a_model_that_hangs_without_a_deadline(wrap: Wrap) -> None:
    early = wrap(ParrotChatModel(hangs_after=0, hang_seconds=3), timeout_seconds=0.2)
    (nothing,) = early.generate([ask()])
    assert "nothing came for 0.2 s" in str(nothing.error)
    late = wrap(ParrotChatModel(hangs_after=2, hang_seconds=3), timeout_seconds=0.2)
    (something,) = late.generate([ask()])
    assert [(sample.finish, len(sample.text.split())) for sample in something.samples] == [("deadline", 2)]


def test_an_abandoned_stream_is_closed(wrap: Wrap) -> None:
    chat_model = ParrotChatModel(word_seconds=0.02)
    wrap(chat_model).generate([ask("Please say 900", n=2)], deadline=time.monotonic() + 0.2)
    limit = time.monotonic() + 2
    while chat_model.notes.abandoned < 2 and time.monotonic() < limit:
        time.sleep(0.01)
    assert (chat_model.notes.abandoned, chat_model.notes.running) == (2, 0)


def test_token_counts_of_the_model_itself(wrap: Wrap) -> None:
    messages = [Message("user", "one two three")]
    assert wrap(CountingChatModel(answers=[""])).count_tokens(messages) == 4  # LangChain puts "Human:" before it
    with_ids = PlainChatModel(answers=[""], custom_get_token_ids=lambda text: list(range(11)))
    assert wrap(with_ids).count_tokens(messages) == 11


@pytest.mark.parametrize("chat_model", [PlainChatModel(answers=[""]), CountingChatModel(answers=[""], falls_back=True)])
def test_gpt2_s_tokenizer_is_never_fetched(
    wrap: Wrap, monkeypatch: pytest.MonkeyPatch, chat_model: BaseChatModel
) -> None:
    asked: list[str] = []

    def fall_back(text: str) -> list[int]:
        asked.append(text)
        return []

    monkeypatch.setattr(base, "_get_token_ids_default_method", fall_back)
    assert wrap(chat_model).count_tokens([Message("user", "x" * 35)]) == 14
    assert not asked


def test_a_count_that_takes_too_long_is_estimated(wrap: Wrap, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kaelum_flow.chat_model_policy.COUNTING_SECONDS", 0.1)
    policy = wrap(CountingChatModel(answers=[""], seconds=1.0))
    started = time.monotonic()
    assert [policy.count_tokens([Message("user", "x" * 35)]) for _ in range(3)] == [14] * 3
    assert time.monotonic() - started < 0.8


def test_messages_of_every_role_arrive(wrap: Wrap) -> None:
    chat_model = ParrotChatModel()
    request = GenerationRequest(
        messages=(
            Message("system", "Be brief."),
            Message("user", "Hello"),
            Message("assistant", "Hi"),
            Message("tool", "42"),
        )
    )
    wrap(chat_model).generate([request])
    sent = chat_model.notes.calls[0]["messages"]
    assert [message.type for message in sent] == ["system", "human", "ai", "human"]
    assert "42" in sent[-1].content


async def test_it_works_inside_a_running_loop(wrap: Wrap) -> None:
    policy = wrap(ParrotChatModel())
    results = await asyncio.gather(*(policy.agenerate([ask(n=2)]) for _ in range(3)))
    assert [len(texts_of(generations)) for generations in results] == [2, 2, 2]


def test_a_closed_policy_says_so_and_leaves_no_thread(wrap: Wrap) -> None:
    before = {thread.name for thread in threading.enumerate()}
    policy = wrap(ParrotChatModel())
    policy.generate([ask()])
    policy.close()
    policy.close()
    assert {thread.name for thread in threading.enumerate()} <= before
    with pytest.raises(ModelError, match="closed"):
        policy.generate([ask()])
