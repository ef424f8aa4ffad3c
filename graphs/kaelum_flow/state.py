"""What travels through the graph: plain JSON values and one array, so that any checkpointer can keep it."""

from __future__ import annotations

import time
from typing import Annotated, Any, NotRequired

from langchain_core.messages import AnyMessage, BaseMessage
from langgraph.graph.message import add_messages
from typing_extensions import TypedDict  # typing's own breaks graph JSON schemas before Python 3.12

from kaelum_graph.errors import UsageError
from kaelum_graph.retrieval import Passage
from kaelum_graph.tree import SearchTree
from kaelum_graph.types import Array, Json, Message, Query, Role

ROLES: dict[str, Role] = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool"}


class KaelumState(TypedDict):
    """State of one query. A caller gives `query` (with `history` and `options`) or `messages`; `answer` is the result.

    `continue_from`, the id of a stored episode, stands for its query and history: its search is taken up again, with
    `options` over its own. `earlier` then says what that search had come to.

    No key but `messages` has a reducer: the LATS subgraph shares these keys, and a sum would be added once more when
    the subgraph returns. The first node takes the input keys into `request` and resets the rest, so that nothing of an
    earlier query on the same thread reaches the next one. `tree` is `SearchTree.to_json()`, `wave` the simulations
    under way, `answer` is `Answer.to_json()`. Times are seconds since the epoch: a run may resume in another process.
    """

    messages: Annotated[list[AnyMessage], add_messages]
    query: NotRequired[str | None]
    history: NotRequired[list[Json] | None]
    options: NotRequired[Json | None]
    continue_from: NotRequired[str | None]
    request: NotRequired[Json]
    earlier: NotRequired[Json | None]
    episode_id: NotRequired[str]
    started_at: NotRequired[float]
    features: NotRequired[Array]  # [398]: 384 embedding, 14 text features
    cached: NotRequired[Json | None]
    route: NotRequired[Json | None]
    structures: NotRequired[Json | None]  # by worker: the `Choice` of this query, or None
    tree: NotRequired[Json | None]
    sources: NotRequired[list[Json] | None]  # `Passage` fields; None where no retriever was asked
    wave: NotRequired[list[Json]]
    waves: NotRequired[int]
    prompt_tokens: NotRequired[int]
    completion_tokens: NotRequired[int]
    reflections: NotRequired[list[str]]
    halt: NotRequired[str | None]
    verdict: NotRequired[Json | None]
    recorded: NotRequired[bool]
    notices: NotRequired[list[str]]
    answer: NotRequired[Json | None]


def read_request(state: KaelumState) -> Json:
    """The request in the input keys: text, history and options. Raises `UsageError` when there is no question.

    Text and history come back well-formed: half of a surrogate pair, which JSON can carry and UTF-8 can't, is U+FFFD.
    """
    text, history = state.get("query"), list(state.get("history") or [])
    if text is None:
        turns = [
            {"role": ROLES.get(message.type, "user"), "content": text_of(message)}
            for message in state.get("messages") or []
        ]
        last = max((index for index, turn in enumerate(turns) if turn["role"] == "user"), default=None)
        if last is None:
            raise UsageError("the query is empty: give 'query', or 'messages' with a user turn.")
        text, history = turns[last]["content"], turns[:last]
    if not text.strip():
        raise UsageError("the query is empty.")
    history = [{**turn, "content": well_formed(turn["content"])} for turn in history]
    return {"text": well_formed(text), "history": history, "options": dict(state.get("options") or {})}


def well_formed(text: str) -> str:
    """`text` as UTF-8 can hold it: a surrogate pair becomes its character, half of one becomes U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def current_query(state: KaelumState) -> Query:
    """The query that `read_request` took in, with the sources that were found for it."""
    request = state.get("request") or {}
    history = tuple(Message(turn["role"], turn["content"]) for turn in request["history"])
    sources = tuple(Passage(**item) for item in state.get("sources") or [])
    return Query(text=request["text"], history=history, sources=sources)


def current_options(state: KaelumState) -> Json:
    """The query's own options."""
    return (state.get("request") or {}).get("options") or {}


def current_route(state: KaelumState) -> Json:
    """The route taken; empty before the route node."""
    return state.get("route") or {}


def read_tree(state: KaelumState) -> SearchTree:
    """The state's tree; an empty one before the first wave."""
    data = state.get("tree")
    return SearchTree.from_json(data) if data else SearchTree()


def text_of(message: BaseMessage) -> str:
    """A message's text, content parts joined."""
    content: Any = message.content
    if isinstance(content, str):
        return content
    return "".join(part if isinstance(part, str) else str(part.get("text", "")) for part in content)


def seconds_left(state: KaelumState, deadline: float | None) -> float | None:
    """Seconds until the deadline, at least 0; None without one."""
    if deadline is None:
        return None
    return max(0.0, state.get("started_at", time.time()) + deadline - time.time())
