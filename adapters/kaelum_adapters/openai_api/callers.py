"""Who asks: `Annotated[Caller, Depends(caller)]` on a route lets in only those who may.

A key comes as `Authorization: Bearer kg-…` or as `x-api-key`. Without one a request is anonymous, where that is
allowed. OpenAI's clients won't start without some key, so any text that isn't in this server's form counts as none.
"""

from __future__ import annotations

import asyncio
import ipaddress
from typing import Protocol
from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import Headers

from kaelum_adapters.openai_api.errors import ApiError
from kaelum_adapters.openai_api.exchange import Caller
from kaelum_adapters.openai_api.keys import PREFIX, KeyBook
from kaelum_adapters.openai_api.options import ServerOptions
from kaelum_adapters.openai_api.server import server_of

CALLER = "kaelum.caller"
"""Where the scope of a request holds its `Caller`, for the log."""


async def caller(request: Request) -> Caller:
    """The caller of this request. Raises `ApiError` 401 for a bad or missing key, 403 for a stranger's web page."""
    # In a thread: a changed file of keys is read, and a host's event loop may forbid what blocks it.
    found = await asyncio.to_thread(identify, server_of(request), request.headers)
    request.scope[CALLER] = found
    return found


class Door(Protocol):
    """What decides who comes in, here and at other servers of this process."""

    @property
    def keys(self) -> KeyBook: ...

    @property
    def options(self) -> ServerOptions: ...


def identify(server: Door, headers: Headers) -> Caller:
    """The caller that these headers name; raises as `caller` does."""
    given = _given_key(headers)
    if given.startswith(PREFIX):
        record = server.keys.find(given)
        if record is None:
            raise _unauthorized("The API key is unknown or revoked.", "invalid_api_key")
        return Caller(tenant=record.tenant, key_id=record.id)
    if not anonymous_allowed(server):
        if given:
            raise _unauthorized("The API key is not one of this server's.", "invalid_api_key")
        raise _unauthorized("An API key is needed: Authorization: Bearer kg-…", "missing_api_key")
    _refuse_strange_pages(headers, server.options)
    return Caller()


def anonymous_allowed(server: Door) -> bool:
    """Whether requests without a key are served: as the options say, else on loopback until the first key is made."""
    if server.options.allow_anonymous is not None:
        return server.options.allow_anonymous
    return server.options.loopback and not server.keys.any()


def _given_key(headers: Headers) -> str:
    scheme, _, token = headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return headers.get("x-api-key", "").strip()


def _unauthorized(message: str, code: str) -> ApiError:
    return ApiError(401, message, code=code, headers={"www-authenticate": "Bearer"})


def _refuse_strange_pages(headers: Headers, options: ServerOptions) -> None:
    """Keep web pages in the user's browser away from a server that asks for no key.

    A page may post a simple form anywhere without asking (only reading the reply needs CORS), and its own host name
    may be made to point here; both would let it spend the model's time and, by feedback, train it.
    """
    origin, host = headers.get("origin"), headers.get("host", "")
    if origin is not None and _netloc(origin) != host:
        raise ApiError(403, "Requests from web pages of other sites need an API key.", code="cross_origin")
    if options.loopback and not _is_local_name(host):
        raise ApiError(403, "The host name in this request is not this machine's.", code="strange_host")


def _netloc(origin: str) -> str | None:
    """The host and port of an origin; None for what is no address."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _is_local_name(host: str) -> bool:
    """Whether no stranger can own this name: an address, or a name without a dot."""
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "." not in name or name.endswith(".localhost")
    return True
