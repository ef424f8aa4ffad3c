"""What can be set about the server itself; the engine's settings are `kaelum_graph.config.Settings`."""

from __future__ import annotations

import ipaddress
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from kaelum_graph.errors import UsageError


class ServerOptions(BaseModel):
    """Where the server listens, whom it serves, and how much of what it takes. Times in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(default="127.0.0.1", min_length=1, description="address to listen on")
    port: int = Field(default=8000, ge=0, le=65535, description="port to listen on; 0: any free one")
    allow_anonymous: bool | None = Field(
        default=None, description="serve requests without a key; unset: only on loopback, until the first key is made"
    )
    max_running: int = Field(default=64, ge=1, description="most requests at work at once")
    queue_size: int = Field(default=256, ge=0, description="most requests that wait for one of those places")
    requests_per_minute: int | None = Field(
        default=None, ge=1, description="most requests a minute for a key without a limit of its own; unset: no limit"
    )
    concurrent: int | None = Field(
        default=None, ge=1, description="most requests at once for a key without a limit of its own; unset: no limit"
    )
    request_deadline: float = Field(
        default=600.0, gt=0, allow_inf_nan=False, description="seconds a request may take, its wait in the queue too"
    )
    drain_seconds: float = Field(
        default=30.0, ge=0, allow_inf_nan=False, description="seconds that running requests get to end at shutdown"
    )
    body_seconds: float = Field(
        default=30.0, gt=0, allow_inf_nan=False, description="seconds within which a body must have arrived"
    )
    max_body_bytes: int = Field(default=8 * 2**20, ge=1024, description="longest request body in bytes")
    max_depth: int = Field(default=64, ge=4, le=256, description="deepest nesting of a JSON body")
    max_messages: int = Field(default=2048, ge=1, description="most messages of one request")
    max_n: int = Field(default=16, ge=1, le=16, description="most choices of one request")
    log_format: Literal["text", "json"] = Field(default="text", description="form of the log's lines")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="least level logged")

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is this machine's own."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_access(options: ServerOptions, *, has_keys: bool) -> None:
    """Raises `UsageError` where strangers could use the server, or nobody could."""
    if has_keys or options.allow_anonymous or (options.loopback and options.allow_anonymous is None):
        return
    if options.loopback:
        raise UsageError("without --allow-anonymous a key is needed: kaelum keys add NAME")
    raise UsageError(
        f"--host {options.host} opens the server to other machines and there is no key: "
        "make one (kaelum keys add NAME), or say --allow-anonymous."
    )
