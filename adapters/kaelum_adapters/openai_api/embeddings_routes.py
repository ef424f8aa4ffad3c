"""`POST /v1/embeddings`: MiniLM, the encoder that the search itself goes by."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from kaelum_adapters.openai_api.callers import caller
from kaelum_adapters.openai_api.embeddings import Embedded, Embedder, TooLong
from kaelum_adapters.openai_api.embeddings_body import EMBEDDING_MODEL, EmbeddingsBody, read_texts
from kaelum_adapters.openai_api.errors import ApiError
from kaelum_adapters.openai_api.exchange import Caller
from kaelum_adapters.openai_api.server import server_of
from kaelum_graph.encoder import HEAD_TOKENS, TAIL_TOKENS
from kaelum_graph.types import Array

router = APIRouter(prefix="/v1/embeddings", tags=["embeddings"])
Who = Annotated[Caller, Depends(caller)]


@router.post("", response_model=None)
async def create_embeddings(body: EmbeddingsBody, request: Request, who: Who) -> Response:
    """Embeddings of 384 numbers, unit norm.

    A text of more than 250 tokens is refused; with `truncate` it gets the mean of its first 250 and its last 64.
    """
    texts = read_texts(body)
    server = server_of(request)
    embedder: Embedder = server.embedder
    async with server.admission.slot(who):
        try:
            made = await embedder.embed(texts, truncate=body.truncate)
        except TooLong as error:
            raise _too_long("input" if isinstance(body.input, str) else f"input.{error.place}") from None
    # Two thousand embeddings as decimal numbers are half a second of writing.
    content = await asyncio.to_thread(_reply, made, body.encoding_format)
    return Response(content, media_type="application/json")


def _reply(made: Sequence[Embedded], form: str) -> bytes:
    tokens = sum(one.tokens for one in made)
    data = [
        {"object": "embedding", "index": index, "embedding": _wire(one.vector, form)} for index, one in enumerate(made)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return json.dumps({"object": "list", "data": data, "model": EMBEDDING_MODEL, "usage": usage}).encode()


def _wire(vector: Array, form: str) -> list[float] | str:
    if form == "float":
        return vector.tolist()
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def _too_long(param: str) -> ApiError:
    message = (
        f"{param}: This model reads at most {HEAD_TOKENS} tokens of a text (context_length_exceeded). Cut it into "
        f"smaller chunks, or send truncate: true to embed its first {HEAD_TOKENS} and last {TAIL_TOKENS} tokens alone."
    )
    return ApiError(400, message, param=param, code="context_length_exceeded")
