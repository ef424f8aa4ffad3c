"""What an OpenAI-compatible server tells about itself outside of chat: its models, its window, its tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import httpx2
import openai

from kaelum_graph.errors import UpstreamError
from kaelum_graph.models.feature_detection import TokenizeForm
from kaelum_graph.models.openai_wire import WrongShape, server_root, wire_messages
from kaelum_graph.models.remote_sample import TOKENS_PER_MESSAGE
from kaelum_graph.types import Json, Message


@dataclass(frozen=True, slots=True)
class ListedModel:
    """One entry of /v1/models. `context_tokens` is there on vLLM and SGLang, `owner` tells the kind of server."""

    name: str
    owner: str
    context_tokens: int | None


class Discovery:
    """Asks one server about itself; every question is bounded by `timeout_seconds`."""

    def __init__(self, client: openai.AsyncOpenAI, base_url: str, *, timeout_seconds: float) -> None:
        self._client = client
        self._root = server_root(base_url)
        self._timeout_seconds = timeout_seconds

    async def models(self) -> list[ListedModel]:
        """The models in the server's order. Raises the client's errors, and `WrongShape` for anything but a list."""
        payload = await self._get("/models")
        entries = cast("Json", payload).get("data") if isinstance(payload, dict) else payload
        if not isinstance(entries, list):
            raise WrongShape("the server's list of models is no list")
        listed: list[ListedModel] = []
        for entry in cast("list[object]", entries):
            fields = cast("Json", entry) if isinstance(entry, dict) else {}
            name = fields.get("id")
            if isinstance(name, str) and name:
                length = fields.get("max_model_len")
                context = length if isinstance(length, int) and length > 0 else None
                listed.append(ListedModel(name, str(fields.get("owned_by", "")).lower(), context))
        return listed

    async def served_context(self) -> int | None:
        """llama.cpp's window, from /props; None where the server has no such page or the page no such number."""
        try:
            payload = await self._get(f"{self._root}/props")
        except (openai.OpenAIError, UpstreamError, TimeoutError):
            return None
        fields = cast("Json", payload) if isinstance(payload, dict) else {}
        settings = fields.get("default_generation_settings")
        for place in (settings, fields):
            length = cast("Json", place).get("n_ctx") if isinstance(place, dict) else None
            if isinstance(length, int) and length > 0:
                return length
        return None

    async def count(
        self, messages: Sequence[Message], model: str, known: TokenizeForm | None
    ) -> tuple[int | None, TokenizeForm]:
        """Prompt tokens, and the form of /tokenize that gave them; (None, "none") where there is no such page."""
        forms: tuple[TokenizeForm, ...] = (known,) if known else ("messages", "content", "prompt")
        for form in forms:
            body, extra = await self._tokenize_body(form, messages, model)
            try:
                payload = await self._post(f"{self._root}/tokenize", body)
            except openai.NotFoundError:
                return None, "none"
            except (openai.APIStatusError, WrongShape):
                continue
            fields = cast("Json", payload) if isinstance(payload, dict) else {}
            count, tokens = fields.get("count"), fields.get("tokens")
            if not isinstance(count, int):
                count = len(cast("list[object]", tokens)) if isinstance(tokens, list) else 0
            if count > 0:
                return count + extra, form
        return None, known or "none"

    async def _tokenize_body(self, form: TokenizeForm, messages: Sequence[Message], model: str) -> tuple[Json, int]:
        """The body to send, and tokens to add for what it leaves out."""
        if form == "messages":
            return {"model": model, "messages": wire_messages(messages)}, 0
        text, extra = "\n".join(message.content for message in messages), TOKENS_PER_MESSAGE * len(messages)
        if form == "prompt":
            return {"model": model, "prompt": text}, extra
        try:
            payload = await self._post(f"{self._root}/apply-template", {"messages": wire_messages(messages)})
            prompt = cast("Json", payload).get("prompt") if isinstance(payload, dict) else None
        except (openai.APIStatusError, WrongShape):
            prompt = None
        if isinstance(prompt, str):
            text, extra = prompt, 0
        return {"content": text, "add_special": True}, extra

    async def _get(self, path: str) -> object:
        return _json(await self._client.get(path, cast_to=httpx2.Response, options={"timeout": self._timeout_seconds}))

    async def _post(self, path: str, body: Json) -> object:
        return _json(
            await self._client.post(
                path, cast_to=httpx2.Response, body=body, options={"timeout": self._timeout_seconds}
            )
        )


def _json(response: Any) -> object:
    try:
        return cast("httpx2.Response", response).json()
    except ValueError:
        raise WrongShape("the server answered with something else than JSON") from None
