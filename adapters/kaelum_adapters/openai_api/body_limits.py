"""Bodies are read whole, measured and looked over before any route sees them."""

from __future__ import annotations

import asyncio
import math
import re
from typing import Any

import numpy as np
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kaelum_adapters.openai_api.errors import ApiError, error_response
from kaelum_adapters.openai_api.options import ServerOptions

_FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
_NOT_A_NUMBER = re.compile(rb"NaN|Infinity")
_MAYBE_TOO_LARGE = re.compile(rb"(?<![\d.])\d[\d.]*[eE]\+?\d{3,}|(?<!\d)\d{309,}")
"""Numbers that may be beyond what a float holds. Neither part begins within digits, so that the search is linear."""
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
_STEP = np.zeros(256, np.int8)
_STEP[[ord("["), ord("{")]], _STEP[[ord("]"), ord("}")]] = 1, -1
BESIDE_BYTES = 2**18
"""Bodies longer than this are looked over in a thread: the event loop has others to serve."""


class BodyLimits:
    """ASGI middleware: a body too long, too slow, too deep or not JSON is refused in OpenAI's shape.

    What passes arrives in one piece. A body without a content type, or with a wrong one, counts as JSON.
    """

    def __init__(self, app: ASGIApp, *, options: ServerOptions) -> None:
        self.app = app
        self._options = options

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            body = await self._read(Headers(scope=scope), receive)
            if body is None:
                return
            if body and not _is_form(scope):
                body = await self._looked_over(body)
                # In place: the request log looks for its route in this scope.
                scope["headers"] = _as_json(scope["headers"], len(body))
        except ApiError as error:
            # What is left of the body would be taken for the next request.
            error.headers["connection"] = "close"
            await error_response(error)(scope, receive, send)
            return
        given = False

        async def replay() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, replay, send)

    async def _read(self, headers: Headers, receive: Receive) -> bytes | None:
        """The whole body; None when the client left before its end. Raises `ApiError` 408 or 413."""
        most = self._options.max_body_bytes
        declared = headers.get("content-length", "")
        if declared.isascii() and declared.isdigit() and int(declared) > most:
            raise self._too_long()
        chunks: list[bytes] = []
        length = 0
        try:
            async with asyncio.timeout(self._options.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    chunk: bytes = message.get("body", b"")
                    length += len(chunk)
                    if length > most:
                        raise self._too_long()
                    chunks.append(chunk)
                    if not message.get("more_body", False):
                        return b"".join(chunks)
        except TimeoutError:
            raise ApiError(
                408, f"The body did not arrive within {self._options.body_seconds:g} s.", code="request_timeout"
            ) from None

    def _too_long(self) -> ApiError:
        return ApiError(
            413, f"The body is longer than {self._options.max_body_bytes:,} bytes.", code="request_too_large"
        )

    async def _looked_over(self, body: bytes) -> bytes:
        if len(body) <= BESIDE_BYTES:
            return sound_json(body, max_depth=self._options.max_depth)
        return await asyncio.to_thread(sound_json, body, max_depth=self._options.max_depth)


def sound_json(body: bytes, *, max_depth: int) -> bytes:
    """`body` with every half of a surrogate pair replaced by U+FFFD: no text with one can be stored or sent.

    Raises `ApiError` 400 for what isn't UTF-8, nests deeper than `max_depth`, or has NaN, infinity or what would become
    infinity (1e999) for a number.
    Whether it is JSON otherwise is left to the parser.
    """
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise ApiError(400, f"The body is not UTF-8 text (byte {error.start}).", code="invalid_json") from None
    if b"\0" in body:
        raise ApiError(400, "The body is not valid JSON: it holds a NUL byte.", code="invalid_json")
    bare = _without_strings(body)
    steps = _STEP[np.frombuffer(bare, np.uint8)]
    if steps.size and int(np.cumsum(steps, dtype=np.int32).max()) > max_depth:
        raise ApiError(400, f"The body is nested deeper than {max_depth} levels.", code="nesting_too_deep")
    if wrong := _NOT_A_NUMBER.search(bare):
        raise ApiError(400, f"The body is not valid JSON: {wrong[0].decode()} is no number.", code="invalid_json")
    if any(map(_too_large, _MAYBE_TOO_LARGE.findall(bare))):
        raise ApiError(400, "The body holds a number that is too large: at most 1.7e308.", code="invalid_json")
    if b"\\ud" in body or b"\\uD" in body:
        body = _ESCAPE.sub(lambda escape: rb"\ufffd" if escape[1] else escape[0], body)
    return body


def _too_large(number: bytes) -> bool:
    try:
        return math.isinf(float(number))
    except ValueError:  # no number at all, which the parser says better
        return False


def _without_strings(body: bytes) -> bytes:
    """What is left of JSON without its strings, in time linear in its length whatever is in it."""
    return b"".join(body.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')[::2])


def _is_form(scope: Scope) -> bool:
    return Headers(scope=scope).get("content-type", "").lower().startswith(_FORMS)


def _as_json(headers: list[tuple[bytes, bytes]], length: int) -> list[Any]:
    kept = [(name, value) for name, value in headers if name.lower() not in (b"content-type", b"content-length")]
    return [*kept, (b"content-type", b"application/json"), (b"content-length", str(length).encode())]
