"""The OpenAI-compatible backend against a real server on loopback that behaves well, badly, or not at all."""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import openai
import pytest

from kaelum_graph.errors import ConfigError, ContextOverflow, KaelumError, ModelError, UpstreamError
from kaelum_graph.models.base import CancelToken, Delta, Generation, GenerationRequest, Sampling
from kaelum_graph.models.openai_server import OpenAIPolicyModel
from kaelum_graph.models.openai_wire import normalize_base_url
from kaelum_graph.models.upstream_errors import Server, read_failure
from kaelum_graph.types import Message
from tests.engine.fake_openai_server import MODEL, FakeServer, reply_words

KEY = "sk-very-secret-0123456789"

Connect = Callable[..., OpenAIPolicyModel]


@pytest.fixture(scope="module")
def running_server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


@pytest.fixture
def server(running_server: FakeServer) -> FakeServer:
    running_server.behave()
    return running_server


@pytest.fixture
def connect(server: FakeServer) -> Iterator[Connect]:
    """Makes models on the server with little patience, and closes them."""
    made: list[OpenAIPolicyModel] = []

    def make(url: str | None = None, **options: Any) -> OpenAIPolicyModel:
        options = {"model": MODEL, "timeout_seconds": 3.0, "stall_seconds": 1.0, "backoff_seconds": 0.01, **options}
        made.append(OpenAIPolicyModel(url or server.url, **options))
        return made[-1]

    yield make
    for model in made:
        model.close()


def ask(prompt: str = "Please say 5", *, n: int = 1, partial_answer: str = "", **sampling: Any) -> GenerationRequest:
    return GenerationRequest(
        messages=(Message("user", prompt),), partial_answer=partial_answer, n=n, sampling=Sampling(**sampling)
    )


def error_of(generations: list[Generation]) -> KaelumError:
    (generation,) = generations
    assert generation.error is not None
    assert not generation.samples
    assert "\n" not in str(generation.error)
    return generation.error


def texts_of(generations: list[Generation]) -> list[str]:
    assert [generation.error for generation in generations] == [None] * len(generations)
    return [sample.text for generation in generations for sample in generation.samples]


def greedy_text(words: int, prompt: str = "Please say 5") -> str:
    return "".join(reply_words([{"role": "user", "content": prompt}], "greedy", words))


class TestAddress:
    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ("http://localhost:8000", "http://localhost:8000/v1"),
            ("http://localhost:8000/", "http://localhost:8000/v1"),
            ("http://localhost:8000/v1", "http://localhost:8000/v1"),
            (" https://api.example.com/v1/ ", "https://api.example.com/v1"),
            ("https://example.com/api/v3", "https://example.com/api/v3"),
            ("http://localhost:8000/v1/chat/completions", "http://localhost:8000/v1"),
            ("http://[::1]:8000", "http://[::1]:8000/v1"),
        ],
    )
    def test_forms_of_the_base_url(self, given: str, expected: str) -> None:
        assert normalize_base_url(given) == expected

    @pytest.mark.parametrize(
        ("given", "says"),
        [
            ("localhost:8000", "http://localhost:8000"),
            ("example.com/v1", "http://example.com/v1"),
            ("ftp://example.com", "http"),
            ("http://", "host"),
            ("http://host:notaport/v1", "[Pp]ort"),
            ("http://host/v1?key=1", "query"),
            ("", "scheme"),
        ],
    )
    def test_what_is_no_address_is_named(self, given: str, says: str) -> None:
        with pytest.raises(ConfigError, match=says):
            normalize_base_url(given)

    @pytest.mark.parametrize("form", ["", "/", "/v1", "/v1/"])
    def test_every_form_reaches_the_server(self, server: FakeServer, connect: Connect, form: str) -> None:
        assert texts_of(connect(server.url + form, model=None).generate([ask(temperature=0)])) == [greedy_text(5)]

    def test_credentials_in_the_address_are_not_shown(self, connect: Connect) -> None:
        model = connect("http://user:hunter2@127.0.0.1:9/v1")
        assert "hunter2" not in repr(model)
        with pytest.raises(UpstreamError) as caught:
            model.generate([ask()])
        assert "127.0.0.1:9" in str(caught.value)
        assert "hunter2" not in str(caught.value)


class TestModelChoice:
    def test_the_first_model_is_taken_and_named(self, server: FakeServer, connect: Connect) -> None:
        server.behave(models=(MODEL, "another"))
        model = connect(model=None)
        assert model.name == MODEL
        assert MODEL in repr(model)
        model.generate([ask()])
        assert server.seen.bodies[-1]["model"] == MODEL

    def test_a_server_without_a_model(self, server: FakeServer, connect: Connect) -> None:
        server.behave(models=())
        with pytest.raises(UpstreamError, match="lists no model"):
            connect(model=None)

    def test_a_missing_model_is_named_with_what_there_is(self, server: FakeServer, connect: Connect) -> None:
        server.behave(models=(MODEL, "another"))
        with pytest.raises(UpstreamError, match=rf"has no model 'gpt-9'.* it has: {MODEL}, another"):
            connect(model="gpt-9").generate([ask(), ask()])

    def test_an_answer_by_another_model_is_not_taken(self, server: FakeServer, connect: Connect) -> None:
        server.behave(models=(MODEL, "another"), speaks_as="another")
        error = error_of(connect().generate([ask()]))
        assert isinstance(error, UpstreamError)
        assert "answered with 'another'" in str(error)

    @pytest.mark.parametrize("speaks_as", [f"{MODEL}-2026-01-01", "/models/parrot.gguf"])
    def test_another_spelling_of_the_model_is_taken(self, server: FakeServer, connect: Connect, speaks_as: str) -> None:
        server.behave(models=(MODEL, f"{MODEL}-2026-01-01"), speaks_as=speaks_as)
        assert texts_of(connect().generate([ask(temperature=0)])) == [greedy_text(5)]

    @pytest.mark.parametrize("settings", [{"lists_context": True}, {"lists_context": False, "props": True}])
    def test_the_context_window(self, server: FakeServer, connect: Connect, settings: dict[str, Any]) -> None:
        server.behave(context_tokens=640, owner="llamacpp", **settings)
        assert connect(model=None).capabilities.context_tokens == 640
        later = connect()
        assert later.capabilities.context_tokens is None
        later.generate([ask()])
        assert server.wait_until(lambda: later.capabilities.context_tokens == 640)

    def test_a_window_that_nobody_tells(self, connect: Connect) -> None:
        assert connect(model=None).capabilities.context_tokens is None


class TestKey:
    def test_the_key_is_sent_and_never_shown(self, server: FakeServer, connect: Connect) -> None:
        server.behave(api_key=KEY)
        model = connect(api_key=KEY)
        assert texts_of(model.generate([ask(temperature=0)])) == [greedy_text(5)]
        assert KEY not in repr(model)

    def test_a_wrong_key_is_said_and_not_shown(self, server: FakeServer, connect: Connect) -> None:
        server.behave(api_key="sk-right")
        with pytest.raises(UpstreamError, match="does not accept the API key") as caught:
            connect(api_key=KEY).generate([ask(), ask(n=3)])
        error: BaseException | None = caught.value
        while error is not None:  # the server repeats the key in its complaint
            assert KEY not in repr(error)
            assert KEY not in str(error)
            error = error.__cause__ or error.__context__

    def test_a_missing_key_is_said(self, server: FakeServer, connect: Connect) -> None:
        server.behave(api_key="sk-right")
        with pytest.raises(UpstreamError, match="wants an API key"):
            connect().generate([ask()])

    def test_a_key_that_no_header_can_carry(self, connect: Connect) -> None:
        with pytest.raises(ConfigError) as caught:
            connect(api_key=f"{KEY}\n")
        assert KEY not in str(caught.value)

    def test_a_key_of_the_environment_stays_there(
        self, server: FakeServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        connect().generate([ask()])
        assert server.seen.keys
        assert not any(KEY in key for key in server.seen.keys)


class TestProxy:
    def test_a_server_on_this_machine_is_not_looked_for_behind_a_proxy(
        self, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert texts_of(connect().generate([ask(temperature=0)])) == [greedy_text(5)]


class TestLostServer:
    def test_connection_refused(self, connect: Connect) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{taken.getsockname()[1]}"
            with pytest.raises(UpstreamError, match=f"{url}/v1 could not be reached: connection refused"):
                connect(url).generate([ask(n=2), ask()])
            with pytest.raises(UpstreamError, match=f"{url}/v1 could not be reached: connection refused"):
                connect(url, model=None)

    def test_no_tls_on_the_other_side(self, server: FakeServer, connect: Connect) -> None:
        url = server.url.replace("http:", "https:")
        with pytest.raises(UpstreamError, match=f"{url}/v1 could not be reached: TLS failed"):
            connect(url).generate([ask()])

    @pytest.mark.parametrize(
        ("cause", "says"),
        [
            (socket.gaierror(-2, "Name or service not known"), "host name is unknown"),
            (ssl.SSLCertVerificationError("self-signed certificate"), "TLS failed: .*self-signed"),
            (httpx2.ConnectTimeout("late"), "did not accept a connection in time"),
            (ConnectionRefusedError(111, "Connection refused"), "connection refused"),
        ],
    )
    def test_what_lies_behind_a_connection_error_is_said(self, cause: Exception, says: str) -> None:
        error = openai.APIConnectionError(request=httpx2.Request("POST", "http://host/v1"))
        error.__cause__ = httpx2.ConnectError("All connection attempts failed")
        error.__cause__.__cause__ = cause
        failure = read_failure(error, server=Server(address="http://host/v1", model="m"), sent=(), prompt_tokens=1)
        assert re.search(says, str(failure.error))
        assert failure.lost_backend

    @pytest.mark.parametrize("status", [400, 401, 404, 429, 500])
    def test_what_a_server_says_is_marked_as_a_quotation(self, status: int) -> None:
        response = httpx2.Response(status, request=httpx2.Request("POST", "http://host/v1"))
        error = openai.APIStatusError("", response=response, body={"message": "Ann Smith's letter is refused"})
        told = read_failure(error, server=Server(address="http://host/v1", model="m"), sent=(), prompt_tokens=1).error
        assert "Ann Smith" in str(told)
        assert "Ann Smith" not in told.without_quotation
        assert f"HTTP {status}" in told.without_quotation

    def test_a_page_that_is_no_api(self, server: FakeServer, connect: Connect) -> None:
        with pytest.raises(UpstreamError, match="is this the API's address"):
            connect(f"{server.url}/elsewhere").generate([ask()])

    def test_a_refused_connection_among_answers_fails_alone(self, server: FakeServer, connect: Connect) -> None:
        server.behave(failures=[(401, {}, {"error": {"message": "no"}})])
        generations = connect(max_parallel=1).generate([ask(), ask(), ask()])
        assert sum(generation.error is not None for generation in generations) == 1


class TestRetries:
    @pytest.mark.parametrize("status", [429, 500, 503, 408])
    def test_a_passing_failure_is_waited_out(self, server: FakeServer, connect: Connect, status: int) -> None:
        failure = (status, {"retry-after": "0.05"}, {"error": {"message": "try again"}})
        server.behave(failures=[failure, failure])
        assert texts_of(connect().generate([ask(temperature=0)])) == [greedy_text(5)]
        assert len(server.seen.bodies) == 3

    def test_two_retries_and_no_more(self, server: FakeServer, connect: Connect) -> None:
        server.behave(failures=[(500, {}, {"error": {"message": "out of memory"}})] * 9)
        assert re.search("HTTP 500.*out of memory", str(error_of(connect().generate([ask()]))))
        assert len(server.seen.bodies) == 3

    def test_one_failing_request_does_not_fail_the_others(self, server: FakeServer, connect: Connect) -> None:
        server.behave(poison_status=500)
        generations = connect().generate([ask(), ask("POISON"), ask()])
        assert [len(generation.samples) for generation in generations] == [1, 0, 1]
        assert len(server.seen.bodies) == 5

    def test_the_server_s_pause_is_kept(self, server: FakeServer, connect: Connect) -> None:
        server.behave(failures=[(429, {"retry-after": "0.4"}, {})])
        started = time.monotonic()
        texts_of(connect().generate([ask()]))
        assert time.monotonic() - started >= 0.4

    def test_a_pause_beyond_the_deadline_is_not_waited_for(self, server: FakeServer, connect: Connect) -> None:
        server.behave(failures=[(429, {"retry-after": "30"}, {"error": {"message": "slow down"}})])
        started = time.monotonic()
        error = error_of(connect().generate([ask()], deadline=started + 5))
        assert "slow down" in str(error)
        assert time.monotonic() - started < 2

    def test_an_empty_purse_is_not_waited_for(self, server: FakeServer, connect: Connect) -> None:
        quota = {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}
        server.behave(failures=[(429, {}, quota)] * 3)
        assert "quota" in str(error_of(connect().generate([ask()])))
        assert len(server.seen.bodies) == 1

    def test_a_stream_cut_before_any_text_is_asked_for_again(self, server: FakeServer, connect: Connect) -> None:
        server.behave(cut_after_words=0, cuts=1)
        assert texts_of(connect().generate([ask(temperature=0)])) == [greedy_text(5)]
        assert len(server.seen.bodies) == 2

    def test_a_stream_cut_in_the_text_is_an_error(self, server: FakeServer, connect: Connect) -> None:
        server.behave(cut_after_words=2)
        deltas: list[Delta] = []
        error = error_of(connect().generate([ask()], on_delta=deltas.append))
        assert "before its answer ended" in str(error)
        assert deltas
        assert len(server.seen.bodies) == 1

    def test_a_server_that_always_cuts_is_an_error(self, server: FakeServer, connect: Connect) -> None:
        server.behave(cut_after_words=0)
        assert "before its answer ended" in str(error_of(connect().generate([ask()])))
        assert len(server.seen.bodies) == 2

    def test_a_refused_prompt_fails_alone_and_at_once(self, server: FakeServer, connect: Connect) -> None:
        generations = connect().generate([ask(temperature=0), ask("POISON", n=3), ask(temperature=0)])
        assert texts_of([generations[0], generations[2]]) == [greedy_text(5)] * 2
        assert "This prompt cannot be served." in str(generations[1].error)


class TestBadAnswers:
    @pytest.mark.parametrize(
        ("kind", "content", "says"),
        [
            ("text/event-stream", b"data: {not json}\n\n", "malformed JSON"),
            ("application/json", b'{"choices": [', "malformed JSON"),
            ("text/html", b"<!doctype html><html><body>Welcome</body></html>", "HTML page"),
            ("application/json", b'{"hello": "there"}', "without choices"),
            ("application/json", b'{"choices": []}', "without choices"),
            ("application/json", b'{"choices": ["text"]}', "no object"),
            ("application/json", b'["a list"]', "list"),
            ("application/json", b'{"choices": [{"index": 0, "finish_reason": "stop"}]}', "without a message"),
            (
                "application/json",
                b'{"choices": [{"index": 0, "message": {"content": null}, "finish_reason": "stop"}]}',
                "without content",
            ),
            ("text/event-stream", b"data: [DONE]\n\n", "without choices"),
            ("text/event-stream", b"", "empty answer"),
            ("text/plain", b"Hello, I am not an API.\n", "instead of an event"),
            ("text/event-stream", b'data: {"error": {"message": "the engine died"}}\n\n', "the engine died"),
            ("application/json", b'{"error": "the engine died"}', "the engine died"),
            ("text/event-stream", b"data: " + b"x" * 9_000_000, "more than 8 MB"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_an_answer_against_the_protocol(
        self, server: FakeServer, connect: Connect, kind: str, content: bytes, says: str
    ) -> None:
        server.behave(answer=(kind, content))
        error = error_of(connect().generate([ask()]))
        assert isinstance(error, UpstreamError)
        assert says in str(error)
        assert server.url in str(error)

    def test_choices_that_nobody_asked_for_are_ignored(self, server: FakeServer, connect: Connect) -> None:
        choices = [{"index": at, "message": {"content": f"answer {at}"}, "finish_reason": "stop"} for at in (7, -1, 0)]
        content = str({"choices": choices}).replace("'", '"').encode()
        server.behave(answer=("application/json", content))
        assert texts_of(connect().generate([ask()])) == ["answer 0"]

    @pytest.mark.parametrize("usage", ["missing", "negative", "huge"])
    def test_absurd_usage_is_not_believed(self, server: FakeServer, connect: Connect, usage: str) -> None:
        server.behave(usage=usage, logprobs="ignored")
        (generation,) = connect().generate([ask("Please say 20", n=2)])
        assert 1 <= generation.prompt_tokens <= 30
        assert all(5 <= sample.completion_tokens <= 40 for sample in generation.samples)

    @pytest.mark.parametrize("usage", ["true", "per_choice"])
    def test_true_usage_is_shared_among_the_samples(self, server: FakeServer, connect: Connect, usage: str) -> None:
        server.behave(logprobs="ignored", usage=usage)
        (generation,) = connect().generate([ask("Please say 20", n=2)])
        assert [sample.completion_tokens for sample in generation.samples] == [20, 20]

    def test_an_endless_answer_is_cut(self, server: FakeServer, connect: Connect) -> None:
        server.behave(endless=True, logprobs="ignored")
        (generation,) = connect().generate([ask(max_tokens=10)])
        (sample,) = generation.samples
        assert (len(sample.text), sample.finish) == (160, "length")
        assert sample.completion_tokens == 10
        assert server.wait_until(lambda: server.seen.abandoned == 1)

    def test_an_endless_answer_whose_tokens_are_listed_is_cut_exactly(
        self, server: FakeServer, connect: Connect
    ) -> None:
        server.behave(endless=True)
        deltas: list[Delta] = []
        (generation,) = connect().generate(
            [ask("Please say 900", max_tokens=10, temperature=0)], on_delta=deltas.append
        )
        (sample,) = generation.samples
        assert sample.text == greedy_text(10, "Please say 900") == "".join(delta.text for delta in deltas)
        assert sample.token_logprobs is not None
        assert len(sample.token_logprobs) == 10

    @pytest.mark.parametrize(("finish", "done"), [(False, True), (True, False)])
    def test_an_end_that_is_only_half_said(
        self, server: FakeServer, connect: Connect, finish: bool, done: bool
    ) -> None:
        server.behave(finish=finish, done=done)
        (whole, cut) = connect().generate([ask(temperature=0), ask(temperature=0, max_tokens=3)])
        assert (whole.samples[0].text, whole.samples[0].finish) == (greedy_text(5), "stop")
        assert (cut.samples[0].text, cut.samples[0].finish) == (greedy_text(3), "length")

    def test_an_end_that_is_not_said_at_all_is_a_cut(self, server: FakeServer, connect: Connect) -> None:
        server.behave(finish=False, done=False)
        assert "before its answer ended" in str(error_of(connect().generate([ask()])))

    def test_a_server_that_does_not_stream(self, server: FakeServer, connect: Connect) -> None:
        server.behave(stream="ignored")
        (generation,) = connect().generate([ask(n=2)])
        assert len(texts_of([generation])) == 2
        assert generation.samples[0].token_logprobs is not None

    def test_reasoning_is_no_text(self, server: FakeServer, connect: Connect) -> None:
        server.behave(reasoning="Let me think about that.")
        (generation,) = connect().generate([ask(temperature=0)])
        assert texts_of([generation]) == [greedy_text(5)]
        assert generation.samples[0].token_logprobs is not None


class TestFeatures:
    @pytest.mark.parametrize("n", ["ignored", "refused"])
    def test_samples_that_the_server_does_not_give_are_asked_for(
        self, server: FakeServer, connect: Connect, n: str
    ) -> None:
        server.behave(n=n)
        model = connect()
        assert model.capabilities.multiple_samples
        first = texts_of(model.generate([ask(n=4)]))
        assert (len(first), len(set(first))) == (4, 4)
        assert not model.capabilities.multiple_samples
        server.behave(n=n)
        assert len(texts_of(model.generate([ask(n=4)]))) == 4
        assert [body.get("n") for body in server.seen.bodies] == [None] * 4

    def test_samples_that_the_server_gives_come_in_one_request(self, server: FakeServer, connect: Connect) -> None:
        assert len(set(texts_of(connect().generate([ask(n=4)])))) == 4
        assert len(server.seen.bodies) == 1

    @pytest.mark.parametrize("logprobs", ["refused", "ignored", "wrong"])
    def test_log_probabilities_that_are_missing(self, server: FakeServer, connect: Connect, logprobs: str) -> None:
        server.behave(logprobs=logprobs)
        model = connect()
        for _ in range(2):
            (generation,) = model.generate([ask(temperature=0)])
            assert texts_of([generation]) == [greedy_text(5)]
            assert generation.samples[0].token_logprobs is None
        if logprobs != "wrong":
            assert not model.capabilities.logprobs
            assert "logprobs" not in server.seen.bodies[-1]

    @pytest.mark.parametrize(("continuation", "owner"), [("flag", "vllm"), ("plain", "llamacpp"), ("plain", "library")])
    def test_a_true_continuation_goes_on_inside_a_word(
        self, server: FakeServer, connect: Connect, continuation: str, owner: str
    ) -> None:
        server.behave(continuation=continuation, owner=owner)
        model, whole = connect(), greedy_text(5)
        partial = whole[:7]
        assert texts_of(model.generate([ask(partial_answer=partial, temperature=0)])) == [whole[7:]]
        assert model.capabilities.continuation
        assert server.seen.bodies[-1]["messages"][-1] == {"role": "assistant", "content": partial}
        before = len(server.seen.bodies)
        model.generate([ask(partial_answer=partial), ask(partial_answer=partial)])
        assert len(server.seen.bodies) == before + 2, "the trial is made once"

    @pytest.mark.parametrize("continuation", ["ignored", "refused"])
    @pytest.mark.parametrize("echoes_draft", [False, True])
    def test_without_continuation_the_draft_goes_into_the_prompt(
        self, server: FakeServer, connect: Connect, continuation: str, echoes_draft: bool
    ) -> None:
        server.behave(continuation=continuation, echoes_draft=echoes_draft)
        model, partial = connect(), "First, we add.\nThen we"
        deltas: list[Delta] = []
        (text,) = texts_of(model.generate([ask(partial_answer=partial)], on_delta=deltas.append))
        assert re.fullmatch(r"w\d{3}( w\d{3}){4}", text)
        assert "".join(delta.text for delta in deltas) == text
        assert not model.capabilities.continuation
        (message,) = server.seen.bodies[-1]["messages"]
        assert message["role"] == "user"
        assert partial in message["content"]

    def test_a_trial_that_fails_teaches_nothing(self, server: FakeServer, connect: Connect) -> None:
        server.behave(failures=[(500, {}, {})] * 3)
        model, whole = connect(), greedy_text(5)
        texts_of(model.generate([ask(partial_answer=whole[:7])]))
        assert texts_of(model.generate([ask(partial_answer=whole[:7], temperature=0)])) == [whole[7:]]

    @pytest.mark.parametrize(
        ("refused", "sampling"),
        [
            ("max_tokens", {}),
            ("temperature", {}),
            ("top_p", {}),
            ("top_k", {"top_k": 40}),
            ("seed", {"seed": 3}),
            ("stop", {"stop": ("x",)}),
            ("stream_options", {}),
        ],
    )
    def test_a_refused_parameter_is_left_out_from_then_on(
        self, server: FakeServer, connect: Connect, refused: str, sampling: dict[str, Any]
    ) -> None:
        server.behave(refuses=frozenset({refused}))
        model = connect()
        texts_of(model.generate([ask(**sampling)]))
        assert [refused in body for body in server.seen.bodies] == [True, False]
        texts_of(model.generate([ask(**sampling)]))
        assert [refused in body for body in server.seen.bodies] == [True, False, False]
        assert ("max_completion_tokens" in server.seen.bodies[-1]) == (refused == "max_tokens")

    def test_many_refusals_at_once(self, server: FakeServer, connect: Connect) -> None:
        names = {"logprobs", "temperature", "top_p", "top_k", "seed", "stop", "stream_options", "max_tokens"}
        server.behave(refuses=frozenset(names))
        requests = [ask(n=3, top_k=5, seed=1, stop=("~",)) for _ in range(4)]
        assert len(texts_of(connect().generate(requests))) == 12

    def test_a_server_without_streaming(self, server: FakeServer, connect: Connect) -> None:
        server.behave(stream="refused")
        assert texts_of(connect().generate([ask(temperature=0)])) == [greedy_text(5)]

    def test_top_k_goes_only_where_it_is_wanted(self, server: FakeServer, connect: Connect) -> None:
        model = connect()
        model.generate([ask()])
        model.generate([ask(top_k=40)])
        assert [body.get("top_k") for body in server.seen.bodies] == [None, 40]

    @pytest.mark.parametrize("stop", ["native", "ignored"])
    def test_stop_strings(self, server: FakeServer, connect: Connect, stop: str) -> None:
        server.behave(stop=stop, chunk_chars=1)
        whole = greedy_text(300, "Please say 300")
        wanted = (*(f"never{at}" for at in range(4)), whole[10:13])
        request = ask("Please say 300", temperature=0, stop=wanted)
        assert texts_of(connect().generate([request])) == [whole[:10]]
        assert server.seen.bodies[-1]["stop"] == list(wanted[:4])
        assert server.wait_until(lambda: server.seen.abandoned == 1), "the server was left to go on"

    def test_each_sample_has_its_own_seed(self, server: FakeServer, connect: Connect) -> None:
        model = connect()
        four = texts_of(model.generate([ask(n=4, seed=7)]))
        assert len(set(four)) == 4
        assert texts_of(model.generate([ask(n=2, seed=7)])) == four[:2]

    def test_features_of_one_server_are_not_those_of_another(self, server: FakeServer, connect: Connect) -> None:
        server.behave(n="refused")
        one, other = connect(), connect()
        one.generate([ask(n=2)])
        assert not one.capabilities.multiple_samples
        assert other.capabilities.multiple_samples

    @pytest.mark.parametrize(("tokenize", "expected"), [("vllm", 8), ("llamacpp", 6), ("none", 15), ("lying", 15)])
    def test_token_counts(self, server: FakeServer, connect: Connect, tokenize: str, expected: int) -> None:
        server.behave(tokenize=tokenize)
        model = connect()
        messages = [Message("system", "Be brief."), Message("user", "Who are you?")]
        assert [model.count_tokens(messages), model.count_tokens(messages)] == [expected, expected]


class TestContextWindow:
    def test_a_prompt_that_is_too_long(self, server: FakeServer, connect: Connect) -> None:
        server.behave(context_tokens=50)
        generations = connect().generate([ask("word " * 80), ask(max_tokens=5)])
        assert isinstance(generations[0].error, ContextOverflow)
        assert (generations[0].error.limit_tokens, generations[0].error.prompt_tokens) == (50, 80)
        assert generations[1].error is None

    def test_an_answer_that_would_be_too_long_is_asked_for_shorter(self, server: FakeServer, connect: Connect) -> None:
        server.behave(context_tokens=50)
        (generation,) = connect().generate([ask("Please say 900 " + "word " * 30, max_tokens=400)])
        (sample,) = generation.samples
        assert (sample.finish, sample.completion_tokens) == ("length", 17)

    def test_a_refusal_without_numbers(self, server: FakeServer, connect: Connect) -> None:
        server.behave(overflow="the input length exceeds the context length")
        error = error_of(connect().generate([ask()]))
        assert isinstance(error, ContextOverflow)
        assert "the input length exceeds" in str(error)
        assert "context_length_exceeded" in str(error)


class TestTime:
    def test_a_server_that_never_answers(self, server: FakeServer, connect: Connect) -> None:
        server.behave(hang="before")
        started = time.monotonic()
        error = error_of(connect(timeout_seconds=0.3).generate([ask()]))
        assert "nothing came for 0.3 s" in str(error)
        assert time.monotonic() - started < 2

    def test_a_server_that_stops_in_its_answer(self, server: FakeServer, connect: Connect) -> None:
        server.behave(hang="after")
        started = time.monotonic()
        error = error_of(connect(stall_seconds=0.3).generate([ask()]))
        assert "paused for more than 0.3 s" in str(error)
        assert time.monotonic() - started < 2

    def test_an_answer_that_takes_too_long_keeps_its_text(self, server: FakeServer, connect: Connect) -> None:
        server.behave(word_seconds=0.02)
        (generation,) = connect(timeout_seconds=0.4).generate([ask("Please say 900", n=2)])
        assert [sample.finish for sample in generation.samples] == ["deadline"] * 2
        assert all(sample.text for sample in generation.samples)

    @pytest.mark.parametrize("hang", ["before", "after"])
    def test_a_deadline_on_a_server_that_hangs(self, server: FakeServer, connect: Connect, hang: str) -> None:
        server.behave(hang=hang)
        started = time.monotonic()
        (generation,) = connect().generate([ask(n=3)], deadline=started + 0.3)
        assert time.monotonic() - started < 2
        assert [sample.finish for sample in generation.samples] == ["deadline"] * 3
        assert all(bool(sample.text) == (hang == "after") for sample in generation.samples)

    def test_a_deadline_while_requests_wait_for_their_turn(self, server: FakeServer, connect: Connect) -> None:
        server.behave(hang="after")
        started = time.monotonic()
        generations = connect(max_parallel=1).generate([ask() for _ in range(5)], deadline=started + 0.3)
        assert time.monotonic() - started < 2
        assert [len(generation.samples) for generation in generations] == [1] * 5

    def test_a_cancelled_answer_is_ended_at_the_server(self, server: FakeServer, connect: Connect) -> None:
        server.behave(word_seconds=0.01)
        token = CancelToken()
        threading.Timer(0.2, token.cancel).start()
        started = time.monotonic()
        generations = connect().generate([ask("Please say 900") for _ in range(3)], cancel=token)
        assert time.monotonic() - started < 1.5
        assert [generation.samples[0].finish for generation in generations] == ["cancelled"] * 3
        assert server.wait_until(lambda: server.seen.abandoned == 3)

    def test_no_more_at_a_time_than_allowed(self, server: FakeServer, connect: Connect) -> None:
        server.behave(word_seconds=0.01)
        texts_of(connect(max_parallel=2).generate([ask(n=3, seed=1) for _ in range(3)]))
        assert server.seen.most_running == 2

    def test_a_slow_callback_holds_nobody_else_up(self, server: FakeServer, connect: Connect) -> None:
        model, busy, free = connect(), threading.Event(), threading.Event()

        def block(delta: Delta) -> None:
            busy.set()
            free.wait(5)

        thread = threading.Thread(target=model.generate, args=([ask()],), kwargs={"on_delta": block})
        thread.start()
        assert busy.wait(5)
        started = time.monotonic()
        texts_of(model.generate([ask()]))
        assert time.monotonic() - started < 2
        free.set()
        thread.join(5)

    def test_a_closed_model_says_so(self, connect: Connect) -> None:
        model = connect()
        model.close()
        model.close()
        with pytest.raises(ModelError, match="closed"):
            model.generate([ask()])
        with pytest.raises(ModelError, match="closed"):
            model.count_tokens([Message("user", "Hello?")])

    def test_a_forgotten_model_leaves_no_thread(self, server: FakeServer) -> None:
        names = [thread.name for thread in threading.enumerate()]
        OpenAIPolicyModel(server.url, model=MODEL).close()
        assert [thread.name for thread in threading.enumerate()] == names
