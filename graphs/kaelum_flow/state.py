"""What travels through the graph: plain JSON values, one array, and bytes where it would be long.

So any checkpointer can keep it, and what it keeps stays small however long the search.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable, Collection, Sequence
from typing import Annotated, Any, NotRequired, TypeVar, cast, get_type_hints

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, ChatMessage, ToolMessage
from langgraph.channels import UntrackedValue
from langgraph.graph.message import add_messages
from langgraph.types import StreamWriter
from typing_extensions import TypedDict  # typing's own breaks graph JSON schemas before Python 3.12

from kaelum_graph.calls import CallRules, answered_calls, calls_json
from kaelum_graph.errors import UsageError
from kaelum_graph.retrieval import Passage
from kaelum_graph.shapes import ShapeRules
from kaelum_graph.shapes_schema import json_text
from kaelum_graph.tree import SearchTree
from kaelum_graph.types import Array, Json, Message, Query, Role, Shape, Tool, ToolCall, ToolChoice, joined

Made = TypeVar("Made")

SHAPING_TIME = 0.2
"""Part of a query's time that is kept for putting its answer in a form."""

ROLES: dict[str, Role] = {
    "human": "user", "user": "user", "ai": "assistant", "assistant": "assistant", "system": "system",
    "developer": "system", "tool": "tool",
}  # fmt: skip
"""By the type of a message, or the role of one that says its own."""

TEXT_PARTS = frozenset({"text", "input_text", "output_text", "plain_text"})
MEDIA_PARTS = frozenset(
    {"audio", "document", "file", "image", "image_generation_call", "image_url", "input_audio", "input_file",
     "input_image", "media", "output_audio", "text-plain", "video"}
)  # fmt: skip
"""Parts that an assistant's turn may not hold either; its reasoning and its calls it may."""


class KaelumOutput(TypedDict):
    """What a run gives: its `messages`, the last of them the answer, and `answer`, which is `Answer.to_json()` without
    the trace (`trace_of` reads that out of the state)."""

    messages: Annotated[list[AnyMessage], add_messages]
    answer: NotRequired[Json | None]


class KaelumInput(TypedDict):
    """What a caller gives: `query` (with `history`) or `messages`.

    `since` are the turns after the query: calls of tools and their results. With `tools` (and `tool_choice`) the answer
    may be calls, for the caller to make; with `shape` its text is JSON of that form. These are the fields of `Message`,
    `Tool`, `ToolChoice` and `Shape` as plain JSON; a tool may also have OpenAI's form. `options` are per-query
    settings.

    `continue_from`, the id of a stored episode, stands for its query and history: its search is taken up again, with
    `options` over its own. `tenant`, "" for the local user, says whose the query is: episodes and cached answers of
    others are not seen.
    """

    messages: Annotated[list[AnyMessage], add_messages]
    query: NotRequired[str | None]
    history: NotRequired[list[Json] | None]
    since: NotRequired[list[Json] | None]
    tools: NotRequired[list[Json] | None]
    tool_choice: NotRequired[Json | None]
    shape: NotRequired[Json | None]
    options: NotRequired[Json | None]
    continue_from: NotRequired[str | None]
    tenant: NotRequired[str | None]


class KaelumState(KaelumInput, KaelumOutput):
    """State of one query: what it was given, what it gives, and what its nodes tell each other.

    A host graph that has Kaelum for a subgraph shares the keys of input and output alone, whatever its own are called.

    No key but `messages` has a reducer: the LATS subgraph shares these keys, and a sum would be added once more when
    the subgraph returns. The first node takes the input keys into `request` and resets the rest, so that nothing of an
    earlier query on the same thread reaches the next one. `request`, `tree` (`SearchTree.to_json()`), `wave` (the
    simulations under way) and `called` are packed (`packed`). `earlier` says what a continued search had come to. Times
    are seconds since the epoch: a run may resume in another process.
    """

    request: NotRequired[bytes]  # packed
    earlier: NotRequired[Json | None]
    episode_id: NotRequired[str]
    started_at: NotRequired[float]
    state_version: NotRequired[str]  # of what was learned before the query
    features: NotRequired[Array]  # [398]: 384 embedding, 14 text features
    called: NotRequired[bytes | None]  # packed: the turns that were sampled with the tools, and what they came to
    cached: NotRequired[Json | None]
    route: NotRequired[Json | None]
    structures: NotRequired[Json | None]  # by worker: the `Choice` of this query, or None
    tree: NotRequired[bytes | None]
    sources: NotRequired[list[Json] | None]  # `Passage` fields; None where no retriever was asked
    wave: NotRequired[bytes | None]
    waves: NotRequired[int]
    prompt_tokens: NotRequired[int]
    completion_tokens: NotRequired[int]
    reflections: NotRequired[list[str]]
    halt: NotRequired[str | None]
    judged_at: NotRequired[float]  # when the verdict was reached
    overruled: NotRequired[str | None]  # the `halt` in spite of which a reviewer sent the search on
    seconds_before: NotRequired[float]  # that the search had taken by then
    tokens_before: NotRequired[int]  # completion tokens that it had taken by then
    reviewed: NotRequired[Json | None]  # what the reviewer said: `score` or `correction`
    verdict: NotRequired[Json | None]
    shaped: NotRequired[Json | None]  # how many texts were asked for in form, and how far they agree
    recorded: NotRequired[bool]
    notices: NotRequired[list[str]]


def only(inputs: Collection[str]) -> Any:
    """The part of `KaelumInput` that has these keys. Raises `UsageError` for one that it lacks."""
    fields = get_type_hints(KaelumInput, include_extras=True)
    if unknown := sorted(set(inputs) - set(fields)):
        raise UsageError(f"unknown input '{unknown[0]}'; known: {', '.join(sorted(fields))}.")
    return TypedDict("KaelumInput", {key: fields[key] for key in fields if key in inputs})  # pyright: ignore


class LatsState(KaelumState):
    """State inside the LATS subgraph. `measured` is what the model measured of the wave's tokens, from one node to the
    next: it is never checkpointed, so a search that is resumed just there judges that wave without it."""

    measured: NotRequired[Annotated[list[Json], UntrackedValue]]


def packed(value: Any) -> bytes:
    """A JSON value as few bytes: the rollouts of a search say much the same, so a tree shrinks twelvefold."""
    return zlib.compress(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(), 6)


def unpacked(data: Any) -> Any:
    """The value that `packed` took; None for None. What a checkpoint of an earlier version holds is not packed."""
    return json.loads(zlib.decompress(data)) if isinstance(data, bytes) else data


def read_request(state: KaelumState) -> Json:
    """The request in the input keys: text, the turns around it, tools, shape and options.

    Texts come back well-formed: half of a surrogate pair, which JSON can carry and UTF-8 can't, is U+FFFD. Raises
    `UsageError` when there is no question, for turns, tools or a shape that make no sense, and for a picture.
    """
    text, history, since = state.get("query"), list(state.get("history") or []), list(state.get("since") or [])
    if text is None:
        check_texts(state.get("messages") or [])
        turns = [turn_of(message) for message in state.get("messages") or []]
        last = max((index for index, turn in enumerate(turns) if turn["role"] == "user"), default=None)
        if last is None and turns and turns[-1]["role"] == "system":
            last = len(turns) - 1  # where no user says anything, a system prompt at the end is the question
        if last is None:
            raise UsageError("the query is empty: give 'query', or 'messages' with a user turn.")
        text, history, since = turns[last]["content"], turns[:last], turns[last + 1 :]
    if not text.strip():
        raise UsageError("the query is empty.")
    # A system prompt holds wherever it stands, and models take it at the beginning alone.
    history += [turn for turn in since if turn["role"] == "system"]
    since = [turn for turn in since if turn["role"] != "system"]
    request: Json = {
        "text": text,
        "history": history,
        "since": since,
        "tools": [tool_fields(tool) for tool in state.get("tools") or []],
        "tool_choice": state.get("tool_choice"),
        "shape": state.get("shape"),
        "options": dict(state.get("options") or {}),
    }
    try:
        request = cast("Json", all_well_formed(request))
    except RecursionError:
        raise UsageError("the request is nested too deeply.") from None
    check_request(request)
    return request


def check_request(request: Json) -> None:
    """Raise `UsageError` for turns, tools or a shape that no answer can be given to."""
    since = tuple(map(read_message, request.get("since") or []))
    answered_calls(since)
    CallRules(requested_tools(request), requested_choice(request))
    if (shape := requested_shape(request)) is not None:
        ShapeRules(shape)


def check_texts(messages: Sequence[BaseMessage]) -> None:
    """Raise `UsageError` for a part of a message that would have to be left unread, such as an image.

    An assistant's own turns may hold reasoning and calls beside their text: those stand elsewhere in the message.
    """
    for place, message in enumerate(messages):
        for part in [] if isinstance(message.content, str) else message.content:
            kind = "text" if isinstance(part, str) else part.get("type")
            unread = kind in MEDIA_PARTS if isinstance(message, AIMessage) else kind not in TEXT_PARTS
            if unread:
                raise UsageError(f"messages.{place}.content: this model reads text only; '{kind}' can't be sent.")


def turn_of(message: BaseMessage) -> Json:
    """A LangChain message as the fields of a `Message`. Raises `UsageError` for a role that none has."""
    said = message.role if isinstance(message, ChatMessage) else message.type
    role = ROLES.get(said.removesuffix("MessageChunk").lower())
    if role is None:
        raise UsageError(f"a message of the role '{said}' can't be read; known: {', '.join(ROLES)}.")
    turn: Json = {"role": role, "content": text_of(message)}
    if isinstance(message, AIMessage) and message.tool_calls:
        turn["calls"] = [
            {"id": call["id"] or "", "name": call["name"], "arguments": json_text(call["args"])}
            for call in message.tool_calls
        ]
    if isinstance(message, ToolMessage):
        turn["call_id"] = message.tool_call_id
    return turn


def tool_fields(tool: Json) -> Json:
    """The fields of a `Tool`, also out of OpenAI's form of one."""
    fields: Json = tool["function"] if isinstance(tool.get("function"), dict) else tool
    known = {name: fields[name] for name in ("name", "description", "parameters", "strict") if fields.get(name)}
    if not isinstance(known.get("name"), str):
        raise UsageError("a tool has no name.")
    return known


def turn_fields(message: Message) -> Json:
    """A message as the state keeps it: plain JSON, without what is empty."""
    turn: Json = {"role": message.role, "content": message.content}
    if message.calls:
        turn["calls"] = calls_json(message.calls)
    if message.call_id:
        turn["call_id"] = message.call_id
    return turn


def read_message(turn: Json) -> Message:
    """The message of one turn of the state."""
    calls = tuple(ToolCall(call["id"], call["name"], call["arguments"]) for call in turn.get("calls") or ())
    return Message(turn["role"], turn["content"], calls=calls, call_id=turn.get("call_id") or "")


def requested_tools(request: Json) -> tuple[Tool, ...]:
    """The tools of a request."""
    return tuple(made(Tool, tool, "a tool") for tool in request.get("tools") or ())


def requested_choice(request: Json) -> ToolChoice:
    """Whether a request wants its tools called. Raises `UsageError` for a mode that is none."""
    choice = made(ToolChoice, request.get("tool_choice") or {}, "tool_choice")
    if choice.mode not in ("auto", "required", "none"):
        raise UsageError(f"tool_choice is '{choice.mode}'; expected auto, required or none.")
    return choice


def requested_shape(request: Json) -> Shape | None:
    """The form that a request's answer must have, None for any."""
    data = request.get("shape")
    return None if data is None else made(Shape, data, "shape")


def made(kind: Callable[..., Made], fields: Json, what: str) -> Made:
    """The value with these fields. Raises `UsageError` where they are not its own."""
    try:
        return kind(**fields)
    except TypeError as error:
        raise UsageError(f"{what} has other fields than expected: {error}.") from error


def all_well_formed(value: object) -> object:
    """`value` with all its texts, those of keys too, as UTF-8 can hold them."""
    if isinstance(value, dict):
        return {
            well_formed(key) if isinstance(key, str) else key: all_well_formed(inner)
            for key, inner in cast("Json", value).items()
        }
    if isinstance(value, list | tuple):
        return [all_well_formed(inner) for inner in cast("Sequence[object]", value)]
    return well_formed(value) if isinstance(value, str) else value


def well_formed(text: str) -> str:
    """`text` as UTF-8 can hold it: a surrogate pair becomes its character, half of one becomes U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def current_request(state: KaelumState) -> Json:
    """The request that `read_request` took in, with its `tenant`; empty before that."""
    return unpacked(state.get("request")) or {}


def told_of(state: KaelumState, writer: StreamWriter) -> StreamWriter:
    """A writer whose events name the answer that they are about."""
    return lambda event: writer({"id": state.get("episode_id", ""), **event})


def current_query(state: KaelumState) -> Query:
    """The query that `read_request` took in, with the sources that were found for it."""
    request = current_request(state)
    history = tuple(map(read_message, request["history"]))
    since = tuple(map(read_message, request.get("since") or []))
    sources = tuple(Passage(**item) for item in state.get("sources") or [])
    return Query(text=request["text"], history=history, since=since, sources=sources)


def checked_tenant(tenant: str | None) -> str:
    """The tenant, "" for None. Raises `UsageError` for one that UTF-8 can't hold: two such would look the same."""
    try:
        (tenant or "").encode()
    except UnicodeEncodeError as error:
        raise UsageError("the tenant is no valid Unicode text.") from error
    return tenant or ""


def current_tenant(state: KaelumState) -> str:
    """Whose query it is; "" is the local user."""
    return current_request(state).get("tenant") or ""


def current_options(state: KaelumState) -> Json:
    """The query's own options."""
    return current_request(state).get("options") or {}


def current_route(state: KaelumState) -> Json:
    """The route taken; empty before the route node."""
    return state.get("route") or {}


def read_tree(state: KaelumState) -> SearchTree:
    """The state's tree; an empty one before the first wave."""
    data = unpacked(state.get("tree"))
    return SearchTree.from_json(data) if data else SearchTree()


def packed_tree(tree: SearchTree) -> bytes:
    """The tree as the state keeps it."""
    return packed(tree.to_json())


def read_wave(state: KaelumState) -> list[Json]:
    """The simulations under way, and what came of them so far, one item each."""
    return unpacked(state.get("wave")) or []


def read_called(state: KaelumState) -> Json:
    """The turns that were sampled with the caller's tools, and what they came to; empty where none were."""
    return unpacked(state.get("called")) or {}


def tokens_left(state: KaelumState, budget: int | None) -> int | None:
    """Completion tokens that may still be generated, at least 0; None without a budget."""
    if budget is None:
        return None
    return max(0, budget - state.get("completion_tokens", 0) + state.get("tokens_before", 0))


def text_of(message: BaseMessage) -> str:
    """A message's text, content parts joined; an assistant's, which may be pieces of a stream, as they are."""
    content: Any = message.content
    if isinstance(content, str):
        return content
    texts = [part if isinstance(part, str) else str(part.get("text", "")) for part in content]
    return "".join(texts) if isinstance(message, AIMessage) else joined(texts)


def seconds_left(state: KaelumState, deadline: float | None, *, shaping: bool = False) -> float | None:
    """Seconds until the deadline, at least 0; None without one.

    Where the answer is to be put in a form, a part of the time is left for that, which is all there for `shaping`.
    """
    if deadline is None:
        return None
    if not shaping and current_request(state).get("shape"):
        deadline *= 1 - SHAPING_TIME
    return max(0.0, state.get("started_at", time.time()) + deadline - time.time())
