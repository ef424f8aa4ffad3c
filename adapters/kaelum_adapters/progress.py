"""A search's progress in the stream of the graph that runs it."""

from __future__ import annotations

from contextlib import suppress

from langgraph.config import get_stream_writer

from kaelum_graph.answer import Event, Progress

PROGRESS_KEY = "kaelum"


def forward(event: Event) -> Event:
    """Pass a progress event on to the host's custom stream as `{"kaelum": {"stage": …}}`; returns the event.

    Outside of any graph nobody listens, and nothing is sent.
    """
    if isinstance(event, Progress):
        with suppress(RuntimeError, KeyError):  # called outside of any graph
            get_stream_writer()({PROGRESS_KEY: {"stage": event.stage, **event.data}})
    return event
