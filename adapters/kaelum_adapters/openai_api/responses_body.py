"""The body of `POST /v1/responses`: every parameter of OpenAI's API, honoured or refused by name."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from kaelum_adapters.openai_api.errors import ApiError
from kaelum_graph.types import Json

LOGPROBS = "message.output_text.logprobs"
ENCRYPTED_REASONING = "reasoning.encrypted_content"

ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Summary = Literal["auto", "concise", "detailed"]


class Part(BaseModel):
    """A piece of the body: unknown keys are errors, numbers aren't read out of strings."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _metadata(pairs: dict[str, str]) -> dict[str, str]:
    if len(pairs) > 16:
        raise ValueError(f"has {len(pairs)} pairs, at most 16 are kept")
    for key, value in pairs.items():
        if len(key) > 64 or len(value) > 512:
            raise ValueError(f"'{key[:64]}': keys have at most 64 characters, values at most 512")
    return pairs


def _text_or_objects(value: Any) -> Any:
    if isinstance(value, str) or (isinstance(value, list) and all(isinstance(part, dict) for part in value)):
        return value
    raise ValueError("must be a string or a list of objects")


def _word_or_object(value: Any) -> Any:
    if isinstance(value, str | dict):
        return value
    raise ValueError("must be a string or an object")


# Checked before the union is, whose own errors would name its members in place of the field.
TextOrObjects = Annotated[str | list[Json], BeforeValidator(_text_or_objects)]
WordOrObject = Annotated[str | Json, BeforeValidator(_word_or_object)]
Identifier = Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,256}$")]
Metadata = Annotated[dict[str, str], AfterValidator(_metadata)]


class Reasoning(Part):
    """How hard to think, and what to show of it. Earlier turns' reasoning is never read again (`context`)."""

    effort: ReasoningEffort | None = None
    summary: Summary | None = None
    generate_summary: Summary | None = None
    context: Literal["auto", "current_turn"] | None = None
    mode: Literal["standard"] | None = None


class TextFormat(Part):
    """`text.format`: plain text, any JSON object, or JSON that fits a schema."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = Field(default=None, pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: str | None = None
    schema_: Json | None = Field(default=None, alias="schema")
    strict: bool | None = None


class TextConfig(Part):
    """The form of the answer's text."""

    format: TextFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class StreamOptions(Part):
    """`include_obfuscation` pads the deltas, so that their sizes on the wire don't give the text away."""

    include_obfuscation: bool | None = None


class ConversationBody(Part):
    """What creating a response and counting its tokens have in common."""

    input: TextOrObjects | None = None
    instructions: str | None = None
    previous_response_id: Identifier | None = None
    conversation: Any = None
    tools: list[Json] | None = None
    tool_choice: WordOrObject | None = None
    parallel_tool_calls: bool | None = None
    reasoning: Reasoning | None = None
    text: TextConfig | None = None
    truncation: Literal["auto", "disabled"] | None = None


class TokenCountBody(ConversationBody):
    """`POST /v1/responses/input_tokens`."""

    model: str | None = None
    personality: Any = None


class ResponseBody(ConversationBody):
    """`POST /v1/responses`. What can't be honoured is declared too, so that `refuse` can say why."""

    model: str
    include: list[str] | None = None
    max_output_tokens: int | None = Field(default=None, ge=1, le=2**31)
    max_tool_calls: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2, allow_inf_nan=False)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2, allow_inf_nan=False)
    store: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    metadata: Metadata | None = None
    user: str | None = Field(default=None, max_length=512)
    safety_identifier: str | None = Field(default=None, max_length=128)
    prompt_cache_key: str | None = Field(default=None, max_length=512)
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    service_tier: str | None = None
    kaelum: Json | None = None
    background: bool | None = None
    prompt: Any = None
    context_management: Any = None
    moderation: Any = None
    prompt_cache_options: Any = None
    access_programs: Any = None
    image: Any = None

    @property
    def summary(self) -> Summary | None:
        """The reasoning summary that was asked for, under its name of now or of old."""
        return None if self.reasoning is None else self.reasoning.summary or self.reasoning.generate_summary

    @property
    def wants_logprobs(self) -> bool:
        """Whether log-probabilities are to come with the text."""
        return LOGPROBS in (self.include or ()) or bool(self.top_logprobs)


REFUSED = {
    "background": "responses are not made in the background; leave it out and stream instead",
    "prompt": "prompt templates are not kept here; send `instructions` and `input`",
    "context_management": "conversations are not compacted here",
    "moderation": "this server has no moderation model",
    "prompt_cache_options": "the prompt cache can't be steered",
    "access_programs": "this server has no access programs",
    "image": "this model reads text alone",
    "conversation": "conversations are not kept here; use previous_response_id, or send the turns as `input`",
    "personality": "this model has no personalities; say it in `instructions`",
}


def refuse(body: ConversationBody) -> None:
    """Raises `ApiError` 400 for what is well-formed and can't be honoured."""
    for name, reason in REFUSED.items():
        if getattr(body, name, None) not in (None, False, [], {}):
            raise unsupported(name, reason)
    if body.truncation == "auto":
        raise unsupported("truncation", "'auto' is not done here, as no turn is dropped unasked; use 'disabled'")
    if not isinstance(body, ResponseBody):
        return
    if body.service_tier not in (None, "auto", "default"):
        raise unsupported("service_tier", f"'{body.service_tier}' is not a tier of this server: 'auto' or 'default'")
    if body.stream_options is not None and not body.stream:
        raise ApiError(400, "stream_options: only with stream true.", param="stream_options", code="invalid_value")
    check_include(body.include or ())


def check_include(names: list[str] | tuple[str, ...]) -> None:
    """Raises `ApiError` 400 for extra output that this server never has."""
    for place, name in enumerate(names):
        if name not in (LOGPROBS, ENCRYPTED_REASONING):
            raise unsupported(f"include.{place}", f"'{name}' is not among '{LOGPROBS}' and '{ENCRYPTED_REASONING}'")


def unsupported(param: str, reason: str) -> ApiError:
    """A 400 that names the parameter and says what to do instead."""
    return ApiError(400, f"{param}: {reason}.", param=param, code="unsupported_parameter")
