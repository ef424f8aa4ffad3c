"""Kaelum for hosts of the Model Context Protocol: tools to reason, to search on and to say how an answer did.

A transport is somebody else's: `mcp_command` serves this on standard input and output, `mcp_http` on a socket.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Mapping
from importlib.metadata import version
from typing import Annotated, Any, Literal, TypeVar

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError, ToolError, UnexpectedToolError
from mcp.types import CallToolResult, ToolAnnotations
from pydantic import Field, ValidationError

from kaelum_adapters.mcp_progress import SearchProgress
from kaelum_adapters.mcp_results import TRACE_URI, Kept, Reasoned, kept, result_of
from kaelum_adapters.openai_api.admission import Admission
from kaelum_adapters.openai_api.callers import CALLER
from kaelum_adapters.openai_api.errors import ApiError
from kaelum_adapters.openai_api.exchange import Caller
from kaelum_adapters.openai_api.pacing import with_silences
from kaelum_flow.facade import Kaelum
from kaelum_graph.answer import Answer, Event
from kaelum_graph.errors import KaelumError, UnknownEpisode
from kaelum_graph.learning.ratings import MODEL_SUFFIX
from kaelum_graph.models.base import CancelToken
from kaelum_graph.tree_text import draw

T = TypeVar("T")

QUIET_SECONDS = 5.0
"""After so long without news of a search its caller is told that it goes on: hosts give up on silent tools."""
SHORTEST_SECONDS = 0.01
"""What a search gets whose turn came in the last moment of its request."""
USER_SOURCE = "mcp"
AGENT_SOURCE = f"mcp{MODEL_SUFFIX}"
"""A host's model speaks for itself unless it says that its user did: its rating is kept, and is nobody's label."""

INSTRUCTIONS = """\
Kaelum answers one self-contained question at a time by tree search over a small model, checks what can be checked, \
and says how sure it is. It sees nothing of this conversation: put everything needed into the question. \
"verified" means that an executed check or a trusted source passed, "unverified" that only agreement speaks for the \
answer, "unsure" that nothing does. When you learn later whether an answer was right, say so with report_outcome \
(your own observation) or feedback (what your user says of it): Kaelum learns from both."""

AnswerId = Annotated[str, Field(min_length=1, description="The answer's id, as reason returned it.")]
Score = Annotated[float, Field(ge=0, le=1, description="From 0 (wrong) to 1 (right).")]
Effort = Literal["low", "medium", "high", "max"]
Worker = Literal["math", "code", "logic", "factual", "creative", "analysis"]
Remark = Annotated[str, Field(max_length=10_000, description="A remark, kept beside it.")]
Seconds = Annotated[
    float | None,
    Field(gt=0, allow_inf_nan=False, description="Seconds after which the best answer so far is returned."),
]

READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
RECORDS = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False)


class KaelumMCP(MCPServer[Any]):
    """The SDK's server, whose errors are one line that an agent can act on."""

    async def call_tool(self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None) -> Any:
        """The tool's result. Raises `ToolError`: one line, that names the argument at fault where it is one."""
        schemas = {tool.name: tool.input_schema for tool in await self.list_tools()}
        if name in schemas:
            refuse_unknown(arguments, schemas[name])
        try:
            return await super().call_tool(name, arguments, context)
        except UnexpectedToolError:
            raise
        except ToolError as error:
            raise ToolError(one_line(error)) from error.__cause__


class Tools:
    """The tools over one Kaelum. `admission` says who may search now; without it everybody may."""

    def __init__(self, kaelum: Kaelum, *, admission: Admission | None = None) -> None:
        self._kaelum = kaelum
        self._admission = admission

    async def reason(
        self,
        ctx: Context[Any, Any],
        question: Annotated[str, Field(min_length=1, description="The whole question, with all it takes to answer.")],
        effort: Annotated[
            Effort | None, Field(description="How long to search; leave out to let Kaelum judge.")
        ] = None,
        worker: Annotated[
            Worker | None, Field(description="The expert to ask; leave out to let Kaelum choose.")
        ] = None,
        deadline_seconds: Seconds = None,
    ) -> Annotated[CallToolResult, Reasoned]:
        """Think hard about one self-contained question (mathematics, programs, logic, facts, analysis): many attempts,
        executed checks, and an answer with how sure it is. Takes seconds to minutes; tells its progress; can be
        cancelled."""
        who, token = caller_of(ctx), CancelToken()
        options: dict[str, Any] = {"effort": effort, "worker": worker}
        async with self._place(who, deadline_seconds) as deadline:
            options["deadline"] = deadline
            given: dict[str, Any] = {key: value for key, value in options.items() if value is not None}
            events = self._kaelum.astream(question, tenant=who.tenant, cancel=token, **given)
            return result_of(await answer_to(ctx, events, token))

    async def continue_search(
        self,
        ctx: Context[Any, Any],
        id: AnswerId,
        rollouts: Annotated[
            int | None, Field(ge=1, le=256, description="How many more attempts; left out: as many as there were.")
        ] = None,
        deadline_seconds: Seconds = None,
    ) -> Annotated[CallToolResult, Reasoned]:
        """Search on for a better answer to an earlier question, in the tree of its answer. The result has an id of its
        own."""
        who, token = caller_of(ctx), CancelToken()
        async with self._place(who, deadline_seconds) as deadline:
            given: dict[str, Any] = {} if deadline is None else {"deadline": deadline}
            events = self._kaelum.astream_continue(id, sims=rollouts, tenant=who.tenant, cancel=token, **given)
            return result_of(await answer_to(ctx, events, token))

    async def feedback(
        self,
        ctx: Context[Any, Any],
        id: AnswerId,
        score: Score | None = None,
        right_answer: Annotated[str, Field(max_length=10_000, description="The right answer, where it is known.")] = "",
        worker: Annotated[Worker | None, Field(description="The expert that should have been asked.")] = None,
        comment: Remark = "",
        said_by: Annotated[
            Literal["agent", "user"],
            Field(description='"user" only where the user said this of the answer; your own judgement is "agent".'),
        ] = "agent",
    ) -> Annotated[CallToolResult, Kept]:
        """Say how good an answer was, or which would have been right. What the user says is learned from as a person's
        word. An answer has one rating by each of user and agent; what is said later takes its place."""
        who = caller_of(ctx)
        source = USER_SOURCE if said_by == "user" else AGENT_SOURCE
        said: dict[str, Any] = {
            "score": score,
            "answer": right_answer or None,
            "worker": worker,
            "comment": comment or None,
        }

        def keep() -> bool:
            return self._kaelum.put_feedback(id, f"{source}-{id}", source=source, tenant=who.tenant, **said)

        self._charge(who)
        return kept(id, await off_loop(keep))

    async def report_outcome(
        self, ctx: Context[Any, Any], id: AnswerId, score: Score, comment: Remark = ""
    ) -> Annotated[CallToolResult, Kept]:
        """Report how what you built on an answer turned out: 1 where it worked, 0 where the answer made it fail. An
        answer has one outcome; another score takes its place."""
        who = caller_of(ctx)

        def report() -> bool:
            return self._kaelum.report_outcome(id, score, comment=comment or None, tenant=who.tenant)

        self._charge(who)
        return kept(id, await off_loop(report))

    async def trace(self, id: str, ctx: Context[Any, Any]) -> str:
        """The search tree of an answer, drawn as text: every step with its visits and value, every vote."""
        tenant, storage = caller_of(ctx).tenant, self._kaelum.services.storage

        def drawn() -> str:
            episode_id = storage.find_episode_id(id, tenant=tenant)
            record = storage.episode(episode_id, tenant=tenant) or {}
            if not record.get("tree"):
                raise UnknownEpisode(f"episode '{episode_id}' has no search tree.")
            return draw(record)

        try:
            return await asyncio.to_thread(drawn)
        except UnknownEpisode as error:
            raise ResourceNotFoundError(str(error)) from error
        except KaelumError as error:
            raise ResourceError(str(error)) from error

    @contextlib.asynccontextmanager
    async def _place(self, who: Caller, seconds: float | None) -> AsyncGenerator[float | None]:
        """A place at work, and the seconds that the search may take there. Raises `ToolError`."""
        with told():
            if self._admission is None:
                yield seconds
                return
            async with self._admission.slot(who) as slot:
                own, left = seconds or self._kaelum.settings.deadline, max(SHORTEST_SECONDS, slot.remaining())
                yield left if own is None else min(own, left)

    def _charge(self, who: Caller) -> None:
        with told():
            if self._admission is not None:
                self._admission.charge(who)


def create_mcp_server(kaelum: Kaelum, *, admission: Admission | None = None) -> KaelumMCP:
    """A server over `kaelum`, which stays the caller's to close. It loads no model before the first question.

    Who asks is read from the HTTP request that a message came in (`callers.CALLER` in its scope); on other transports
    it is the local user.
    """
    server = KaelumMCP(
        "kaelum",
        title="Kaelum",
        description="Reasons by tree search over a small model, checks what it can, learns from how it did.",
        instructions=INSTRUCTIONS,
        version=version("kaelum-graph"),
        log_level="WARNING",
    )
    tools = Tools(kaelum, admission=admission)
    for tool, title, hints in (
        (tools.reason, "Reason", READS),
        (tools.continue_search, "Search on", READS),
        (tools.feedback, "Rate an answer", RECORDS),
        (tools.report_outcome, "Report an outcome", RECORDS),
    ):
        server.add_tool(tool, title=title, description=described(tool), annotations=hints)
    server.resource(
        TRACE_URI, name="trace", title="Search tree", description=described(tools.trace), mime_type="text/plain"
    )(tools.trace)
    return server


def described(tool: Callable[..., object]) -> str:
    """What a host's model is told of a tool: its docstring on one line."""
    return " ".join((tool.__doc__ or "").split())


def caller_of(ctx: Context[Any, Any]) -> Caller:
    """Who sent this message; the local user where it came by no HTTP request."""
    request = ctx.request_context.request
    return Caller() if request is None else request.scope[CALLER]


async def answer_to(ctx: Context[Any, Any], events: AsyncIterator[Event], token: CancelToken) -> Answer:
    """The answer that ends a search, which is told of on the way. Leaving early, for whatever reason, ends the search.

    Raises `ToolError`.
    """
    progress, answer = SearchProgress(), None
    try:
        with told():
            async with contextlib.aclosing(with_silences(events, seconds=QUIET_SECONDS, what="search")) as steps:
                async for event in steps:
                    if isinstance(event, Answer):
                        answer = event
                    elif (step := progress.about(event)) is not None:
                        await ctx.report_progress(step.done, step.total, step.message)
    finally:
        token.cancel()
    assert answer is not None, "the respond node ends every run"
    return answer


async def off_loop(work: Callable[[], T]) -> T:
    """What `work` returns, done in a thread. Raises `ToolError`."""
    with told():
        return await asyncio.to_thread(work)


@contextlib.contextmanager
def told() -> Generator[None]:
    """Errors that a caller can act on, as the SDK passes them to the host's model."""
    try:
        yield
    except (KaelumError, ApiError) as error:
        raise ToolError(str(error)) from error


def refuse_unknown(arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    """Raise `ToolError` for an argument that the tool does not have: the SDK would pass over a misspelt one."""
    known = schema.get("properties", {})
    for name in arguments:
        if name not in known:
            raise ToolError(f"{name}: unknown argument; known: {', '.join(known)}.")


def one_line(error: ToolError) -> str:
    """What is wrong, without the SDK's wrapping."""
    cause = error.__cause__
    if isinstance(cause, ValidationError):
        first = cause.errors(include_url=False)[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg'][:1].lower()}{first['msg'][1:]}."
    return " ".join(str(cause or error).split())
