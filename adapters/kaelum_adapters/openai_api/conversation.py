"""OpenAI's chat messages, read strictly and turned into the engine's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from kaelum_adapters.openai_api.errors import ApiError
from kaelum_adapters.openai_api.responses_body import TextOrObjects
from kaelum_graph.types import Message, Role, ToolCall, joined

MODALITIES = {
    "image_url": "images",
    "input_image": "images",
    "input_audio": "sound",
    "file": "files",
    "input_file": "files",
    "video_url": "films",
}


class Given(BaseModel):
    """Part of a body: nothing unknown in it, nothing converted."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)


class FunctionGiven(Given):
    """What a call calls."""

    name: str = Field(min_length=1, max_length=256)
    arguments: str
    # The openai client's own reading of them, sent back with them.
    parsed_arguments: Any = None


class CallGiven(Given):
    """A call in an assistant's turn."""

    id: str = Field(min_length=1, max_length=256)
    type: Literal["function"] = "function"
    function: FunctionGiven
    index: int | None = None


class _Named(Given):
    # Who speaks is in no chat template that small models know: where users have several names, it is put into the text.
    name: str | None = None


class SystemTurn(_Named):
    """A system prompt; "developer" is the same under another name."""

    role: Literal["system", "developer"]
    content: TextOrObjects


class UserTurn(_Named):
    """What a person says."""

    role: Literal["user"]
    content: TextOrObjects


class AssistantTurn(_Named):
    """What a model said, or called. Its reasoning comes back from some clients, and is not read again."""

    role: Literal["assistant"]
    content: TextOrObjects | None = None
    refusal: str | None = None
    tool_calls: list[CallGiven] | None = None
    function_call: FunctionGiven | None = None
    reasoning_content: str | None = None
    reasoning: Any = None
    annotations: list[Any] | None = None
    audio: Any = None
    parsed: Any = None
    kaelum: Any = None


class ToolTurn(_Named):
    """What a tool gave back."""

    role: Literal["tool"]
    content: TextOrObjects
    tool_call_id: str = Field(min_length=1, max_length=256)


class FunctionTurn(Given):
    """What a function gave back, in the older form: it answers the last call of its name."""

    role: Literal["function"]
    name: str
    content: str | None = None


def _role(value: Any) -> str:
    role = value.get("role") if isinstance(value, dict) else getattr(value, "role", None)
    return "system" if role == "developer" else str(role)


AnyTurn = (
    Annotated[SystemTurn, Tag("system")]
    | Annotated[UserTurn, Tag("user")]
    | Annotated[AssistantTurn, Tag("assistant")]
    | Annotated[ToolTurn, Tag("tool")]
    | Annotated[FunctionTurn, Tag("function")]
)
ChatTurn = Annotated[
    AnyTurn,
    Discriminator(
        _role,
        custom_error_type="invalid_role",
        custom_error_message="expected a message whose role is system, developer, user, assistant, tool or function",
    ),
]


def read_messages(turns: Sequence[ChatTurn]) -> tuple[Message, ...]:
    """The conversation. Raises `ApiError` 400, `param` the place, for what can't be read or answers no call."""
    messages: list[Message] = []
    open_calls: dict[str, str] = {}  # id to name, of calls without a result so far
    several = len({turn.name for turn in turns if isinstance(turn, UserTurn) and turn.name}) > 1
    for place, turn in enumerate(turns):
        param = f"messages.{place}"
        match turn:
            case AssistantTurn():
                if turn.audio is not None:
                    message = f"{param}.audio: this model reads text only; sound can't be sent."
                    raise ApiError(400, message, param=f"{param}.audio", code="unsupported_modality")
                calls = [
                    ToolCall(call.id, call.function.name, call.function.arguments) for call in turn.tool_calls or ()
                ]
                if turn.function_call is not None:
                    calls.append(ToolCall(f"call_{place}", turn.function_call.name, turn.function_call.arguments))
                text = read_content(turn.content or turn.refusal or "", f"{param}.content")
                if turn.content is None and turn.refusal is None and not calls:
                    raise _senseless(f"{param}.content", "neither text nor calls")
                open_calls.update((call.id, call.name) for call in calls)
                messages.append(Message("assistant", text, calls=tuple(calls)))
            case ToolTurn():
                if turn.tool_call_id not in open_calls:
                    raise _senseless(f"{param}.tool_call_id", "answers no call of an assistant's turn before it")
                text = read_content(turn.content, f"{param}.content")
                messages.append(Message("tool", text, call_id=turn.tool_call_id))
            case FunctionTurn():
                named = next((key for key, name in reversed(open_calls.items()) if name == turn.name), None)
                if named is None:
                    raise _senseless(f"{param}.name", f"answers no call of '{turn.name}' before it")
                messages.append(Message("tool", turn.content or "", call_id=named))
            case _:
                role: Role = "user" if isinstance(turn, UserTurn) else "system"
                text = read_content(turn.content, f"{param}.content")
                if several and role == "user" and turn.name and text.strip():
                    text = f"{turn.name}: {text}"
                messages.append(Message(role, text))
    return tuple(messages)


def read_content(content: str | Sequence[dict[str, Any]], param: str) -> str:
    """The text of a turn, its parts joined. Raises `ApiError` 400 for a part that is no text."""
    if isinstance(content, str):
        return content
    texts: list[str] = []
    for place, part in enumerate(content):
        at, kind = f"{param}.{place}", part.get("type")
        if kind in MODALITIES:
            message = f"{at}: this model reads text only; {MODALITIES[kind]} can't be sent."
            raise ApiError(400, message, param=f"{at}.type", code="unsupported_modality")
        text = part.get("refusal") if kind == "refusal" else part.get("text")
        if kind not in ("text", "input_text", "output_text", "refusal") or not isinstance(text, str):
            raise _senseless(at, "expected a part of type 'text' with its text")
        texts.append(text)
    return joined(texts)


def _senseless(param: str, reason: str) -> ApiError:
    return ApiError(400, f"{param}: {reason}.", param=param, code="invalid_value")
