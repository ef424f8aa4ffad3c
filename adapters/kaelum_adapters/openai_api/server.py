"""What the routes of one server share: `request.app.state.server`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import Request

if TYPE_CHECKING:
    from kaelum_adapters.openai_api.admission import Admission
    from kaelum_adapters.openai_api.drain import Drain
    from kaelum_adapters.openai_api.exchange import Runner
    from kaelum_adapters.openai_api.keys import KeyBook
    from kaelum_adapters.openai_api.options import ServerOptions
    from kaelum_adapters.openai_api.readiness import Readiness
    from kaelum_flow.facade import Kaelum


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One running server. `runner` is the outermost one; `completions` None where no completions are kept.

    `responses` is the `ResponsesStore`, `embedder` the `Embedder`.
    """

    kaelum: Kaelum
    options: ServerOptions
    keys: KeyBook
    admission: Admission
    runner: Runner
    readiness: Readiness
    drain: Drain
    completions: Any = None
    responses: Any = None
    embedder: Any = None
    telemetry: Any = None


def server_of(request: Request) -> Server:
    """The server that a request came to."""
    return request.app.state.server
