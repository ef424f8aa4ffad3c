"""The body of `POST /v1/embeddings`: every parameter of OpenAI's API, honoured or refused by name."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from kaelum_adapters.openai_api.errors import ApiError
from kaelum_graph.encoder import EMBEDDING_SIZE

EMBEDDING_MODEL = "all-MiniLM-L6-v2"
MODEL_NAMES = {name.lower(): EMBEDDING_MODEL for name in (EMBEDDING_MODEL, f"sentence-transformers/{EMBEDDING_MODEL}")}
"""The names that a client may write, letter case aside."""

MOST_INPUTS = 2048

TOKENS_GIVEN = (
    "input: token numbers can't be read here, as they belong to another model's tokenizer; send texts. "
    "With LangChain: OpenAIEmbeddings(check_embedding_ctx_length=False)."
)


def _texts_or_tokens(value: object, inner: ValidatorFunctionWrapHandler) -> object:
    try:
        return inner(value)
    except ValidationError:
        raise ValueError("expected a text or a list of texts") from None


class EmbeddingsBody(BaseModel):
    """`truncate` is this server's own: what is too long is read in part instead of being refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    model: str
    input: Annotated[str | list[str] | list[int] | list[list[int]], WrapValidator(_texts_or_tokens)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(default=None, description=f"only {EMBEDDING_SIZE}")
    user: str | None = Field(default=None, max_length=512)
    truncate: bool = False


def read_texts(body: EmbeddingsBody) -> list[str]:
    """The texts to embed. Raises `ApiError` 400 or 404 for what can't be done."""
    if body.model.lower() not in MODEL_NAMES:
        message = f"model: '{body.model}' is not an embedding model of this server; use '{EMBEDDING_MODEL}'."
        raise ApiError(404, message, param="model", code="model_not_found")
    if body.dimensions not in (None, EMBEDDING_SIZE):
        message = (
            f"dimensions: {body.dimensions} is not to be had; this model's embeddings have {EMBEDDING_SIZE} numbers, "
            "and fewer of them would not keep their meaning."
        )
        raise ApiError(400, message, param="dimensions", code="unsupported_value")
    texts = [body.input] if isinstance(body.input, str) else body.input
    if not texts:
        raise ApiError(400, "input: an empty list; give at least one text.", param="input", code="invalid_value")
    if len(texts) > MOST_INPUTS:
        message = f"input: {len(texts)} texts; at most {MOST_INPUTS} a request."
        raise ApiError(400, message, param="input", code="array_above_max_length")
    found: list[str] = []
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise ApiError(400, TOKENS_GIVEN, param="input", code="unsupported_value")
        if not text:
            param = "input" if isinstance(body.input, str) else f"input.{place}"
            raise ApiError(400, f"{param}: an empty text has no embedding.", param=param, code="invalid_value")
        found.append(text)
    return found
