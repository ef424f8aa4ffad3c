"""Any LangChain retriever, or a plain function, as the engine's `Retriever`."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias, cast

from langchain_core.runnables import Runnable

from kaelum_graph.errors import UsageError
from kaelum_graph.models.background_loop import BackgroundLoop
from kaelum_graph.retrieval import Passage

AnyRetriever: TypeAlias = Runnable[Any, Any] | Callable[[str], Any]
"""A LangChain retriever, any Runnable from a question to documents, or a plain function (async ones too)."""


class AdaptedRetriever:
    """`retriever` as a `Retriever`. Its async side is used where it has no other; an async call ends with `seconds`."""

    def __init__(self, retriever: AnyRetriever, *, seconds: float) -> None:
        if not isinstance(retriever, Runnable) and not callable(retriever):
            raise UsageError(
                f"retriever is a {type(retriever).__name__}: expected a LangChain retriever, a Runnable or a function "
                "from a question to a list of texts or documents."
            )
        self._retriever = retriever
        self._seconds = seconds
        self._loop: BackgroundLoop | None = None
        self._lock = threading.Lock()

    def __call__(self, question: str) -> Sequence[Passage]:
        """The passages for `question`. Raises whatever the retriever raises, `TypeError` for what is no passage."""
        found = self._ask(question)
        if isinstance(found, (str, bytes, Mapping)) or not isinstance(found, Sequence):
            raise TypeError(f"it gave a {type(found).__name__}, not a list of texts or documents")
        return [passage_of(item) for item in cast("Sequence[object]", found)]

    def _ask(self, question: str) -> object:
        if not isinstance(self._retriever, Runnable):
            found = self._retriever(question)
            return self._wait(found) if inspect.isawaitable(found) else found
        try:
            return self._retriever.invoke(question)
        except NotImplementedError:
            pass
        except TypeError as error:
            # What a RunnableLambda over an async function alone says.
            if "ainvoke" not in str(error):
                raise
        return self._wait(self._retriever.ainvoke(question))

    def _wait(self, awaitable: Awaitable[object]) -> object:
        async def awaited() -> object:
            return await awaitable

        with self._lock:
            # One loop for all questions: async clients keep connections that belong to the loop they were made on.
            self._loop = self._loop or BackgroundLoop("kaelum-retriever")
        future = self._loop.submit(awaited())
        try:
            return future.result(self._seconds)
        finally:
            future.cancel()


def passage_of(item: object) -> Passage:
    """A text, a `Passage`, a LangChain document or anything like one. Raises `TypeError` for anything else."""
    if isinstance(item, Passage):
        return item
    if isinstance(item, str):
        return Passage(text=item)
    fields = cast("Mapping[str, object]", item) if isinstance(item, Mapping) else None
    for name in ("page_content", "text"):
        text = fields.get(name) if fields is not None else getattr(item, name, None)
        if isinstance(text, str):
            metadata: object = fields.get("metadata") if fields is not None else getattr(item, "metadata", None)
            known = cast("Mapping[str, object]", metadata) if isinstance(metadata, Mapping) else (fields or {})
            source = next((str(known[key]) for key in ("source", "url", "file_path", "id") if known.get(key)), "")
            return Passage(text=text, source=source, title=str(known.get("title") or ""))
    raise TypeError(f"it gave a {type(item).__name__} among the documents")
