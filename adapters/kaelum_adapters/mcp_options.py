"""What can be set about the MCP server on HTTP; known without the SDK, for the command's help."""

from __future__ import annotations

from pydantic import Field

from kaelum_adapters.openai_api.options import ServerOptions


class McpOptions(ServerOptions):
    """Where the MCP server listens, under which names, and for whom."""

    port: int = Field(default=8001, ge=0, le=65535, description="port to listen on; 0: any free one")
    allow_host: tuple[str, ...] = Field(
        default=(), description="a name or address by which clients on other machines reach the server; repeatable"
    )


MCP_FLAGS = (
    "host",
    "port",
    "allow_host",
    "allow_anonymous",
    "max_running",
    "queue_size",
    "requests_per_minute",
    "concurrent",
    "request_deadline",
    "max_body_bytes",
)
"""The options that this server reads."""
