"""What no route caught: a whole error response, or the proper end of a stream that had begun."""

from __future__ import annotations

import json
import logging

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kaelum_adapters.openai_api.errors import ApiError, as_api_error, error_body, error_response, log_failure
from kaelum_adapters.openai_api.request_id import request_id_of
from kaelum_graph.errors import KaelumError

logger = logging.getLogger("kaelum.server")


class LastResort:
    """ASGI middleware: an exception becomes a response in OpenAI's shape, or the last event of an event stream.

    A response of another kind that had begun is cut, as nothing else would tell the client that it isn't whole.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, over, events = False, False, False

        async def watched(message: Message) -> None:
            nonlocal begun, over, events
            if message["type"] == "http.response.start":
                begun = True
                events = Headers(raw=message["headers"]).get("content-type", "").startswith("text/event-stream")
            elif message["type"] == "http.response.body":
                over = not message.get("more_body", False)
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as caught:
            error = _plain(caught)
            told = as_api_error(error)
            if told.status >= 500:
                log_failure(error, told, request_id_of(scope))
            if not begun:
                await error_response(told)(scope, receive, send)
            elif events and not over:
                # The blank line first: the stream may have been cut within an event.
                event = f"\n\nevent: error\ndata: {json.dumps(error_body(told))}\n\n"
                await send({"type": "http.response.body", "body": event.encode(), "more_body": False})
            elif not over:
                raise


def _plain(error: Exception) -> Exception:
    """The error itself, out of a group of one and out of Starlette's remark that a response had begun."""
    if isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        return _plain(error.exceptions[0])
    if isinstance(error, RuntimeError) and isinstance(error.__cause__, ApiError | KaelumError):
        return error.__cause__
    return error
