"""What the MCP tools return: for a host's model to read, and as data of a published form."""

from __future__ import annotations

from typing import Literal

from mcp.types import CallToolResult, TextContent
from pydantic import BaseModel, Field

from kaelum_graph.answer import Answer

TRACE_URI = "kaelum://answers/{id}/trace"


class OtherAnswer(BaseModel):
    """One distinct answer that the search came to."""

    answer: str
    share: float = Field(description="Part of the attempts that came to it, from 0 to 1.")
    confidence: float = Field(description="P(correct), from 0 to 1.")


class Reasoned(BaseModel):
    """What a search came to."""

    id: str = Field(description="Handle for feedback, report_outcome and continue_search.")
    answer: str | None = Field(description="The final value; null for prose, or where none could be read out.")
    text: str = Field(description="The whole answer, as it is to be read.")
    status: Literal["verified", "unverified", "unsure"] = Field(
        description="verified: a check passed; unverified: attempts agree; unsure: nothing speaks for it."
    )
    confidence: float = Field(description="P(correct), from 0 to 1, as far as the evidence goes.")
    worker: str = Field(description="The expert that was asked.")
    alternatives: list[OtherAnswer] = Field(description="The distinct answers, the best first.")
    stop_reason: str = Field(description="Why the search ended.")
    trace: str | None = Field(description="URI of the resource that shows the search tree; null where none is kept.")


class Kept(BaseModel):
    """What became of a rating or an outcome."""

    id: str = Field(description="The answer that it is about.")
    changed: bool = Field(description="False where exactly this was said before.")


def result_of(answer: Answer) -> CallToolResult:
    """The answer for a model to read, and as data."""
    uri = TRACE_URI.replace("{id}", answer.id)
    reasoned = Reasoned(
        id=answer.id,
        answer=answer.answer,
        text=answer.text,
        status=answer.status,
        confidence=answer.confidence,
        worker=answer.worker,
        alternatives=[
            OtherAnswer(answer=one.answer, share=one.share, confidence=one.confidence) for one in answer.alternatives
        ],
        stop_reason=answer.stop_reason,
        trace=uri if answer.recorded else None,
    )
    lines = [
        answer.text,
        f"[{answer.status}, P(correct) = {answer.confidence:.2f}, by {answer.worker}, id {answer.id}]",
    ]
    if answer.status != "verified" and len(answer.alternatives) > 1:
        others = "; ".join(f"{one.answer} ({one.share:.0%})" for one in answer.alternatives[1:])
        lines.append(f"Other answers that came up: {others}")
    lines += [f"Note: {notice}" for notice in answer.notices]
    return as_result("\n\n".join(lines), reasoned)


def kept(id: str, changed: bool) -> CallToolResult:
    """Word of something that is on disk now."""
    text = f"Kept for answer {id}." if changed else f"That was known of answer {id} already."
    return as_result(text, Kept(id=id, changed=changed))


def as_result(text: str, data: BaseModel) -> CallToolResult:
    """A tool's result in both forms."""
    return CallToolResult(
        content=[TextContent(type="text", text=text)], structured_content=data.model_dump(mode="json")
    )
