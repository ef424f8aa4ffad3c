"""A tool by which an agent says how an answer of Kaelum turned out."""

from __future__ import annotations

from langchain_core.tools import BaseTool, StructuredTool, ToolException
from pydantic import BaseModel, Field

from kaelum_adapters.tool import invalid_arguments
from kaelum_flow.facade import Kaelum
from kaelum_flow.state import checked_tenant
from kaelum_graph.errors import KaelumError

DESCRIPTION = (
    "Tells Kaelum how an answer of its turned out once that is known, by the id that came with the answer. "
    "Kaelum learns from it, so report what was seen, not what was hoped."
)


class Outcome(BaseModel):
    """What an agent passes to the tool."""

    id: str = Field(description="The id that came with the answer.")
    score: float = Field(ge=0, le=1, description="From 0 (it was wrong, or what was built on it failed) to 1 (right).")
    comment: str | None = Field(None, description="What was seen, in a sentence.")


def kaelum_outcome_tool(
    kaelum: Kaelum | None = None, *, name: str = "report_outcome", description: str | None = None, tenant: str = ""
) -> BaseTool:
    """A tool that keeps how an answer turned out, as `Kaelum.report_outcome` does: an opinion, never a check.

    A tool apart from `kaelum_tool`, because what it is told trains the models: give it to agents whose word you would
    learn from. It loads no model. `kaelum` and `tenant` must be those of the tool that gave the answer. An unknown id
    or a score out of range becomes a tool message with status "error". Raises `UsageError` for a bad tenant.
    """
    served = kaelum or Kaelum()
    checked_tenant(tenant)

    def report(id: str, score: float, comment: str | None = None) -> str:
        try:
            kept = served.report_outcome(id, score, comment=comment, tenant=tenant)
        except KaelumError as error:
            raise ToolException(str(error)) from error
        return "Kept." if kept else "Known already."

    async def areport(id: str, score: float, comment: str | None = None) -> str:
        try:
            kept = await served.areport_outcome(id, score, comment=comment, tenant=tenant)
        except KaelumError as error:
            raise ToolException(str(error)) from error
        return "Kept." if kept else "Known already."

    return StructuredTool.from_function(
        func=report,
        coroutine=areport,
        name=name,
        description=DESCRIPTION if description is None else description,
        args_schema=Outcome,
        handle_tool_error=True,
        handle_validation_error=invalid_arguments,
    )
