"""What an exception of the `openai` client means: whose fault, whether to try again, and the one line to show."""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import Any, cast

import httpx2
import openai

from kaelum_graph.errors import ContextOverflow, KaelumError, UpstreamError
from kaelum_graph.models.feature_detection import context_overflow, refused_parameter
from kaelum_graph.models.openai_wire import ReportedError, WrongShape
from kaelum_graph.types import Json

MAX_DETAIL_CHARS = 300
RETRYABLE_STATUS = frozenset({408, 409, 425, 429})


class RefusedRequest(UpstreamError):
    """The server works, and will not serve this request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """How errors speak of the server: its address without credentials, the model, and what must never be shown."""

    address: str
    model: str
    secrets: tuple[str, ...] = ()

    def hide(self, text: str) -> str:
        """`text` in one short line, without the API key."""
        for secret in self.secrets:
            text = text.replace(secret, "[API key]")
        line = " ".join(text.split())
        return line if len(line) <= MAX_DETAIL_CHARS else line[:MAX_DETAIL_CHARS] + "…"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What went wrong with one HTTP request, and what to do about it.

    `lost_backend`: no other request would get through either. `retry`: the same request may succeed in a moment,
    `retry_after` seconds from now where the server says. `cut`: the connection ended before the answer did.
    `refused`: the parameter to leave out. `room`: the prompt fits if `max_tokens` is at most this.
    `model_missing`: the server has no such model.
    """

    error: KaelumError
    lost_backend: bool = False
    retry: bool = False
    retry_after: float | None = None
    cut: bool = False
    refused: str | None = None
    room: int | None = None
    model_missing: bool = False


def read_failure(error: Exception, *, server: Server, sent: Container[str], prompt_tokens: int) -> Failure:
    """The meaning of `error`. `sent` names the parameters of the request; `prompt_tokens` estimates its prompt."""
    if isinstance(error, openai.APIStatusError):
        return _status_failure(error, server, sent, prompt_tokens)
    if isinstance(error, ReportedError):
        return _reported_failure(error, server, sent, prompt_tokens)
    if isinstance(error, WrongShape):
        shown = server.hide(str(error))
        return Failure(error=WrongShape(f"{server.address}: {shown}").quoting(shown))
    if isinstance(error, KaelumError):
        return Failure(error=error)
    if isinstance(error, TimeoutError):
        return Failure(error=UpstreamError(f"{server.address} stopped answering: {error}"))
    if isinstance(error, openai.APIConnectionError | httpx2.HTTPError | OSError):
        return _transport_failure(error, server)
    shown = server.hide(str(error))
    line = f"{server.address} could not be understood: {type(error).__name__}: {shown}"
    return Failure(error=UpstreamError(line).quoting(shown))


def _status_failure(error: openai.APIStatusError, server: Server, sent: Container[str], prompt_tokens: int) -> Failure:
    status, detail = error.status_code, complaint(error.body)
    shown = f": {server.hide(detail)}" if detail else ""
    if refused := _refusal(status, error.body, detail, sent):
        line = f"{server.address} does not accept {refused}{shown}"
        return Failure(error=RefusedRequest(line).quoting(shown), refused=refused)
    if status in (400, 413, 422, 500) and (overflow := context_overflow(_whole(error.body))):
        return overflow_failure(overflow, detail, server, prompt_tokens)
    if status in (401, 403):
        problem = "does not accept the API key" if server.secrets else "wants an API key"
        line = f"{server.address} {problem} (HTTP {status}){shown}"
        return Failure(error=UpstreamError(line, status=status).quoting(shown), lost_backend=True)
    if status == 404:
        if "model" in detail.lower() or _field(error.body, "code") == "model_not_found":
            line = f"{server.address} has no model {server.model!r}"
            return Failure(error=UpstreamError(line), lost_backend=True, model_missing=True)
        line = f"{server.address} offers no chat completions (HTTP 404){shown}; is this the API's address?"
        return Failure(error=UpstreamError(line).quoting(shown), lost_backend=True)
    if status in RETRYABLE_STATUS or status >= 500:
        quota = _field(error.body, "code") == "insufficient_quota"
        wait = _retry_after(error.response.headers)
        failed = UpstreamError(f"{server.address} failed (HTTP {status}){shown}", status=status, retry_after=wait)
        return Failure(
            error=failed.quoting(shown),
            retry=not quota,
            retry_after=wait,
        )
    line = f"{server.address} refused the request (HTTP {status}){shown}"
    return Failure(error=RefusedRequest(line).quoting(shown))


def _reported_failure(error: ReportedError, server: Server, sent: Container[str], prompt_tokens: int) -> Failure:
    """An error told inside an answer: servers that stream have sent their 200 by then."""
    detail = complaint(error.body) or "no reason given"
    if refused := _refusal(400, error.body, detail, sent):
        return Failure(error=RefusedRequest(f"{server.address} does not accept {refused}"), refused=refused)
    if overflow := context_overflow(_whole(error.body)):
        return overflow_failure(overflow, detail, server, prompt_tokens)
    shown = server.hide(detail)
    return Failure(error=UpstreamError(f"{server.address} reported an error: {shown}").quoting(shown), cut=True)


def _refusal(status: int, body: object, detail: str, sent: Container[str]) -> str | None:
    if status not in (400, 403, 422, 500, 501):
        return None
    param = _field(body, "param")
    return refused_parameter(detail, param=param, sent=sent)


def overflow_failure(
    numbers: tuple[int | None, int | None], detail: str, server: Server, estimated_tokens: int
) -> Failure:
    limit, prompt = numbers
    if limit is None:
        error = ContextOverflow(limit_tokens=0, prompt_tokens=prompt or estimated_tokens)
        error.args = (f"The messages do not fit the model's context window (context_length_exceeded): "
                      f"{server.hide(detail)}",)  # fmt: skip
        return Failure(error=error)
    room = limit - prompt if prompt is not None and prompt < limit else None
    return Failure(error=ContextOverflow(limit_tokens=limit, prompt_tokens=prompt or estimated_tokens), room=room)


def _transport_failure(error: Exception, server: Server) -> Failure:
    causes = list(_causes(error))

    def met(*kinds: type[BaseException]) -> BaseException | None:
        return next((cause for cause in causes if isinstance(cause, kinds)), None)

    def lost(problem: str) -> Failure:
        return Failure(error=UpstreamError(f"{server.address} {problem}"), lost_backend=True)

    if tls := met(ssl.SSLError):
        return lost(f"could not be reached: TLS failed: {server.hide(str(tls))}")
    if met(socket.gaierror):
        return lost("could not be reached: its host name is unknown")
    if met(httpx2.ConnectTimeout):
        return lost("could not be reached: it did not accept a connection in time")
    if met(ConnectionRefusedError):
        return lost("could not be reached: connection refused; is the server running?")
    if cause := met(httpx2.ConnectError, httpx2.ProxyError, httpx2.UnsupportedProtocol):
        return lost(f"could not be reached: {server.hide(str(cause)) or type(cause).__name__}")
    if met(httpx2.TimeoutException):
        return Failure(error=UpstreamError(f"{server.address} did not answer in time"))
    if cause := met(httpx2.DecodingError):
        shown = server.hide(str(cause))
        return Failure(error=WrongShape(f"{server.address} sent what cannot be decoded: {shown}").quoting(shown))
    return Failure(error=UpstreamError(f"{server.address} closed the connection before its answer ended"), cut=True)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and everything that led to it."""
    seen: set[int] = set()
    queue: list[BaseException] = [error]
    while queue:
        current = queue.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        queue += [cause for cause in (current.__cause__, current.__context__) if cause is not None]
        if isinstance(current, BaseExceptionGroup):
            queue += cast("BaseExceptionGroup[BaseException]", current).exceptions


def complaint(body: object) -> str:
    """What an error body says, whatever its form: OpenAI's object, FastAPI's detail, plain text, or a page."""
    if isinstance(body, str):
        text = re.sub(r"<(style|script)\b.*?</\1>|<[^>]*>", " ", body, flags=re.DOTALL | re.IGNORECASE)
        return " ".join(text.split())
    if not isinstance(body, dict):
        return ""
    fields = cast("Json", body)
    for key in ("message", "error", "detail", "msg"):
        value: Any = fields.get(key)
        if isinstance(value, str) and value:
            return value
        if isinstance(value, dict):
            return complaint(cast("Json", value))
        if isinstance(value, list):
            # FastAPI's list of {loc, msg, input}: the input may be the whole prompt, so it is left out.
            items = [cast("Json", item) for item in cast("list[object]", value) if isinstance(item, dict)]
            return "; ".join(
                f"{'.'.join(str(part) for part in item.get('loc', ()))}: {item.get('msg')}" for item in items
            )
    return ""


def _whole(body: object) -> str:
    """The body as text, so that numbers in fields of their own are found too."""
    return body if isinstance(body, str) else json.dumps(body, default=str)


def _field(body: object, key: str) -> str | None:
    value = cast("Json", body).get(key) if isinstance(body, dict) else None
    return value if isinstance(value, str) else None


def _retry_after(headers: httpx2.Headers) -> float | None:
    """Seconds until the server wants to be asked again; None where it gives no number."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) * unit)
        except (KeyError, ValueError):
            continue
    return None
