"""A real HTTP server on loopback that speaks chat completions well, badly or not at all, as a test asks it to.

Its answers follow a rule: the words of `reply_words`, which depend on the messages, on the seed (without one, on
the number of the request), and go on from where a continued answer stopped.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

Native = Literal["native", "ignored", "refused"]

MODEL = "tiny-parrot"
DEFAULT_WORDS = 24


@dataclass
class Behaviour:
    """How the server behaves from now on. The default is a well-behaved vLLM."""

    # How features are served. `continuation`: "flag" needs vLLM's flag, "plain" continues any last assistant message.
    n: Native = "native"
    logprobs: Literal["native", "ignored", "refused", "wrong"] = "native"
    continuation: Literal["flag", "plain", "ignored", "refused"] = "flag"
    stop: Native = "native"
    stream: Native = "native"
    refuses: frozenset[str] = frozenset()
    echoes_draft: bool = False

    # What the server is and holds.
    models: tuple[str, ...] = (MODEL,)
    owner: str = "vllm"
    speaks_as: str | None = None
    context_tokens: int | None = None
    lists_context: bool = True
    overflow: str = ""
    props: bool = False
    tokenize: Literal["vllm", "llamacpp", "none", "lying"] = "none"
    api_key: str | None = None

    # Failures. `failures` are (status, headers, body), given to one request each before any is served.
    failures: list[tuple[int, dict[str, str], Any]] = field(default_factory=list[Any])
    answer: tuple[str, bytes] | None = None
    hang: Literal["never", "before", "after"] = "never"
    hang_after_words: int = 3
    cut_after_words: int | None = None
    cuts: int = 10_000
    poison: str = "POISON"
    poison_status: int = 400

    # How the answer looks on the wire.
    word_seconds: float = 0.0
    chunk_chars: int | None = None
    usage: Literal["true", "per_choice", "missing", "negative", "huge"] = "true"
    finish: bool = True
    done: bool = True
    endless: bool = False
    ignores_max_tokens: bool = False
    reasoning: str = ""
    says: str | None = None


@dataclass
class Seen:
    """What the server saw: bodies of chat requests, their authorization headers, and answers cut off by the client."""

    bodies: list[dict[str, Any]] = field(default_factory=list[Any])
    keys: list[str] = field(default_factory=list[str])
    abandoned: int = 0
    running: int = 0
    most_running: int = 0


def reply_words(messages: list[dict[str, Any]], salt: object, count: int) -> list[str]:
    """The first `count` words of the answer. "Repeat exactly: …" is repeated; "say 40" sets the answer's length."""
    user = next((str(item["content"]) for item in reversed(messages) if item["role"] == "user"), "")
    if match := re.match(r"Repeat exactly: (.*)", user):
        words = match.group(1).split()
        return [word if at == 0 else f" {word}" for at, word in enumerate(words)][:count]
    length = int(match.group(1)) if (match := re.search(r"\bsay (\d+)", user)) else DEFAULT_WORDS
    turns = [(item["role"], item["content"]) for item in messages if item["role"] != "assistant"]
    base = zlib.crc32(repr((turns, salt)).encode())
    return [f"{'' if at == 0 else ' '}w{(base + at * 7919) % 1000:03d}" for at in range(min(length, count))]


class FakeServer:
    """The server, running from `with` to its end. `behaviour` may be replaced at any time; `seen` is what came in."""

    def __init__(self) -> None:
        self.behaviour = Behaviour()
        self.seen = Seen()
        # Said to be TCP in so many words, or asyncio leaves delays of 40 ms between small packets.
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            _app(self),
            log_level="critical",
            lifespan="off",
            timeout_graceful_shutdown=1,
            ws="none",
            timeout_keep_alive=60,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)

    @property
    def url(self) -> str:
        """Its address, without `/v1`."""
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def behave(self, **settings: Any) -> None:
        """Forget what was seen, and behave well but for `settings`."""
        self.behaviour, self.seen = Behaviour(**settings), Seen()

    def wait_until(self, reached: Any, seconds: float = 3.0) -> bool:
        """Whether `reached()` became true within `seconds`."""
        limit = time.monotonic() + seconds
        while not reached() and time.monotonic() < limit:
            time.sleep(0.01)
        return bool(reached())

    def __enter__(self) -> Self:
        self._thread.start()
        assert self.wait_until(lambda: self._server.started), "the fake server did not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join(5)
        self._socket.close()


def _refusal(message: str, *, status: int = 400, param: str | None = None, code: str | None = None) -> JSONResponse:
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return JSONResponse({"error": error}, status_code=status)


def _refused_parameter(behaviour: Behaviour, body: dict[str, Any]) -> JSONResponse | None:
    """The 400 for the first parameter that this server does not take."""
    for name in sorted(behaviour.refuses & set(body)):
        message = f"Unsupported parameter: '{name}' is not supported with this model."
        return _refusal(message, param=name, code="unsupported_parameter")
    if behaviour.n == "refused" and body.get("n", 1) > 1:
        return _refusal("Only one completion choice is allowed")
    if behaviour.logprobs == "refused" and body.get("logprobs"):
        return _refusal("This model does not support logprobs.")
    if behaviour.stream == "refused" and body.get("stream"):
        return _refusal("'stream' is not supported here", param="stream")
    if behaviour.n == "native" and body.get("n", 1) > 1 and body.get("temperature") == 0:
        return _refusal("n must be 1 when using greedy sampling.")
    stop = body.get("stop") or []
    if len([stop] if isinstance(stop, str) else stop) > 4:
        return _refusal("Invalid 'stop': array too long. Expected an array with maximum length 4.", param="stop")
    if body.get("continue_final_message") and behaviour.continuation in ("plain", "refused"):
        return _refusal("Unrecognized request argument supplied: continue_final_message")
    if body["messages"][-1]["role"] == "assistant" and behaviour.continuation == "refused":
        return _refusal("The last message must have role 'user'.")
    return None


def _continues(behaviour: Behaviour, body: dict[str, Any]) -> str:
    """The partial answer that this request truly continues; empty for a fresh turn."""
    last = body["messages"][-1]
    if last["role"] != "assistant":
        return ""
    if behaviour.continuation == "plain" or (behaviour.continuation == "flag" and body.get("continue_final_message")):
        return str(last["content"])
    return ""


def _choice_words(behaviour: Behaviour, body: dict[str, Any], index: int, number: int) -> list[str]:
    """All words of one choice, before any is cut."""
    greedy = body.get("temperature") == 0
    salt: object = "greedy" if greedy else (body["seed"], index) if "seed" in body else (number, index)
    limit = body.get("max_tokens") or body.get("max_completion_tokens") or 100_000
    count = 1_000_000 if behaviour.ignores_max_tokens else limit
    if behaviour.says is not None:
        return re.findall(r"\s*\S+\s*?", behaviour.says)[:count]
    messages = body["messages"]
    partial = _continues(behaviour, body)
    if partial:
        whole = reply_words(messages, salt, count + len(partial))
        text = "".join(whole)
        rest = text[len(partial) :] if text.startswith(partial) else "".join(whole[len(partial.split()) :])
        words = re.findall(r"\s*\S+", rest)[:count]
    else:
        words = reply_words(messages, salt, count)
    draft = re.search(r"<draft>\n(.*)\n</draft>", str(messages[-1]["content"]), re.DOTALL)
    if behaviour.echoes_draft and draft:
        words = [draft.group(1), *words]
    return words


def _app(server: FakeServer) -> FastAPI:
    app = FastAPI()

    @app.get("/v1/models")
    async def models() -> Response:
        behaviour = server.behaviour
        entries: list[dict[str, Any]] = []
        for name in behaviour.models:
            entry: dict[str, Any] = {"id": name, "object": "model", "owned_by": behaviour.owner}
            if behaviour.context_tokens and behaviour.lists_context:
                entry["max_model_len"] = behaviour.context_tokens
            entries.append(entry)
        return JSONResponse({"object": "list", "data": entries})

    @app.get("/props")
    async def props() -> Response:
        behaviour = server.behaviour
        if not behaviour.props:
            return JSONResponse({"detail": "Not Found"}, status_code=404)
        return JSONResponse({"default_generation_settings": {"n_ctx": behaviour.context_tokens}})

    @app.post("/apply-template")
    async def apply_template(request: Request) -> Response:
        if server.behaviour.tokenize != "llamacpp":
            return JSONResponse({"detail": "Not Found"}, status_code=404)
        body = await request.json()
        return JSONResponse({"prompt": " <turn> ".join(item["content"] for item in body["messages"])})

    @app.post("/tokenize")
    async def tokenize(request: Request) -> Response:
        body, kind = await request.json(), server.behaviour.tokenize
        if kind == "none":
            return JSONResponse({"detail": "Not Found"}, status_code=404)
        if kind == "lying":
            return JSONResponse({"count": 10**9})
        if kind == "llamacpp":
            return JSONResponse({"tokens": list(range(len(body.get("content", "").split())))})
        words = sum(len(item["content"].split()) for item in body["messages"])
        return JSONResponse({"count": words + 3, "tokens": [0] * (words + 3)})

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        behaviour, seen = server.behaviour, server.seen
        body = await request.json()
        seen.bodies.append(body)
        seen.keys.append(request.headers.get("authorization", ""))
        return await _chat(behaviour, seen, body, len(seen.bodies))

    return app


async def _chat(behaviour: Behaviour, seen: Seen, body: dict[str, Any], number: int) -> Response:
    if behaviour.api_key and seen.keys[-1] != f"Bearer {behaviour.api_key}":
        return _refusal(f"Incorrect API key provided: {seen.keys[-1].removeprefix('Bearer ')}.", status=401)
    if body["model"] not in behaviour.models:
        message = f"The model `{body['model']}` does not exist."
        return _refusal(message, status=404, code="model_not_found")
    if behaviour.hang == "before":
        await asyncio.sleep(60)
    if behaviour.failures:
        status, headers, content = behaviour.failures.pop(0)
        if isinstance(content, str):
            return Response(content, status_code=status, headers=headers, media_type="text/html")
        return JSONResponse(content, status_code=status, headers=headers)
    if behaviour.poison in str(body["messages"]):
        return _refusal("This prompt cannot be served.", status=behaviour.poison_status)
    if refusal := _refused_parameter(behaviour, body):
        return refusal
    if behaviour.overflow:
        return _refusal(behaviour.overflow)
    if behaviour.context_tokens and (refusal := _overflow(behaviour.context_tokens, body)):
        return refusal
    if behaviour.answer is not None:
        kind, content = behaviour.answer
        return Response(content, media_type=kind)
    asked = body.get("n", 1) if behaviour.n == "native" else 1
    choices = [_choice_words(behaviour, body, index, number) for index in range(asked)]
    if body.get("stream") and behaviour.stream == "native":
        return StreamingResponse(_stream(behaviour, seen, body, choices), media_type="text/event-stream")
    return _whole(behaviour, body, choices)


def _overflow(context: int, body: dict[str, Any]) -> JSONResponse | None:
    prompt = sum(len(item["content"].split()) for item in body["messages"])
    wanted = body.get("max_tokens") or body.get("max_completion_tokens") or 0
    if prompt + wanted <= context:
        return None
    return _refusal(
        f"This model's maximum context length is {context} tokens. However, you requested {prompt + wanted} tokens "
        f"({prompt} in the messages, {wanted} in the completion). Please reduce the length of the messages.",
        code="context_length_exceeded",
    )


def _served(behaviour: Behaviour, body: dict[str, Any], words: list[str]) -> tuple[list[str], str]:
    """The words that are sent, and the finish reason: a stop string ends them where the server honours it."""
    stop = body.get("stop") or []
    stop = [stop] if isinstance(stop, str) else stop
    limit = body.get("max_tokens") or body.get("max_completion_tokens")
    if behaviour.stop == "native" and stop:
        text = "".join(words)
        cuts = [at for item in stop if (at := text.find(item)) >= 0]
        if cuts:
            kept = text[: min(cuts)]
            return re.findall(r"\s*\S+\s*?|\s+", kept), "stop"
    return words, "length" if limit and len(words) >= limit else "stop"


def _logprobs(behaviour: Behaviour, body: dict[str, Any], words: list[str]) -> dict[str, Any] | None:
    if not body.get("logprobs") or behaviour.logprobs != "native":
        wrong = [{"token": "nonsense", "logprob": 3.0}] if behaviour.logprobs == "wrong" else None
        return {"content": wrong} if wrong and body.get("logprobs") else None
    content = [{"token": word, "logprob": -0.01 * len(word), "bytes": list(word.encode())} for word in words]
    return {"content": content}


def _usage(behaviour: Behaviour, body: dict[str, Any], completion: int) -> dict[str, int]:
    prompt = sum(len(item["content"].split()) for item in body["messages"]) + 3
    if behaviour.usage == "negative":
        return {"prompt_tokens": -5, "completion_tokens": -7, "total_tokens": -12}
    if behaviour.usage == "huge":
        return {"prompt_tokens": 10**9, "completion_tokens": 10**9, "total_tokens": 2 * 10**9}
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _whole(behaviour: Behaviour, body: dict[str, Any], choices: list[list[str]]) -> JSONResponse:
    answered: list[dict[str, Any]] = []
    total = 0
    for index, words in enumerate(choices):
        served, finish = _served(behaviour, body, words)
        total += len(served)
        answered.append(
            {
                "index": index,
                "message": {"role": "assistant", "content": "".join(served)},
                "logprobs": _logprobs(behaviour, body, served),
                "finish_reason": finish if behaviour.finish else None,
            }
        )
    payload: dict[str, Any] = {"id": "c", "object": "chat.completion", "model": body["model"], "choices": answered}
    if behaviour.usage != "missing":
        payload["usage"] = _usage(behaviour, body, total)
    return JSONResponse(payload)


async def _stream(
    behaviour: Behaviour, seen: Seen, body: dict[str, Any], choices: list[list[str]]
) -> AsyncIterator[bytes]:
    model = behaviour.speaks_as or body["model"]
    complete = False

    def event(choice_list: list[dict[str, Any]], **more: Any) -> bytes:
        payload = {"id": "c", "object": "chat.completion.chunk", "model": model, "choices": choice_list, **more}
        return f"data: {json.dumps(payload)}\n\n".encode()

    def delta(index: int, finish: str | None = None, logprobs: Any = None, **fields: Any) -> dict[str, Any]:
        return {"index": index, "delta": fields, "logprobs": logprobs, "finish_reason": finish}

    seen.running += 1
    seen.most_running = max(seen.most_running, seen.running)
    try:
        yield b": hello\r\n\r\n"
        for index in range(len(choices)):
            yield event([delta(index, role="assistant", content="")])
            if behaviour.reasoning:
                yield event([delta(index, reasoning_content=behaviour.reasoning)])
        served = [_served(behaviour, body, words) for words in choices]
        total = sum(len(words) for words, _ in served)
        position = 0
        while position < max((len(words) for words, _ in served), default=0) or behaviour.endless:
            if behaviour.hang == "after" and position >= behaviour.hang_after_words:
                await asyncio.sleep(60)
            if behaviour.cut_after_words is not None and position >= behaviour.cut_after_words and behaviour.cuts > 0:
                behaviour.cuts -= 1
                complete = True
                raise ConnectionResetError("cut on purpose")
            for index, (words, _) in enumerate(served):
                if position < len(words) or behaviour.endless:
                    word = words[position] if position < len(words) else " and"
                    size = behaviour.chunk_chars or len(word)
                    for start in range(0, len(word), size):
                        logprobs = _logprobs(behaviour, body, [word]) if start == 0 else None
                        yield event([delta(index, logprobs=logprobs, content=word[start : start + size])])
            position += 1
            await asyncio.sleep(behaviour.word_seconds)
        wants_usage = (body.get("stream_options") or {}).get("include_usage")
        for index, (words, finish) in enumerate(served):
            if behaviour.finish:
                yield event([delta(index, finish=finish)])
            if wants_usage and behaviour.usage == "per_choice":
                yield event([], usage=_usage(behaviour, body, len(words)))
        if wants_usage and behaviour.usage not in ("missing", "per_choice"):
            yield event([], usage=_usage(behaviour, body, total))
        if behaviour.done:
            yield b"data: [DONE]\n\n"
        complete = True
    finally:
        seen.running -= 1
        if not complete:
            seen.abandoned += 1
