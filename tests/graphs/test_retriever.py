"""Sources from outside: any retriever is taken, a bad one costs only its time, and the answer cites what it gave."""

from __future__ import annotations

import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda

from kaelum_flow.facade import Kaelum
from kaelum_flow.retriever import AdaptedRetriever, AnyRetriever
from kaelum_flow.terminal import story
from kaelum_graph.answer import Answer, Progress
from kaelum_graph.cli import main
from kaelum_graph.config import Settings
from kaelum_graph.encoder import Encoder
from kaelum_graph.errors import ConfigError, UsageError
from kaelum_graph.models.base import CancelToken
from kaelum_graph.retrieval import Passage
from kaelum_graph.sandbox import ProcessSandbox
from kaelum_graph.types import Message
from tests.graphs.scripted_model import ScriptedModel, always, cycle

CAPITAL = "What is the capital of Australia?"
FACT = "Canberra is the capital of Australia."
SAYS = "It was purpose-built.\nAnswer: Canberra"
OTHER = "It is the largest.\nAnswer: Sydney"


class SyncRetriever(BaseRetriever):
    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        return [Document(page_content=FACT, metadata={"source": "atlas.pdf", "title": "Atlas", "trusted": True})]


class AsyncRetriever(BaseRetriever):
    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        raise NotImplementedError

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun
    ) -> list[Document]:
        return [Document(page_content=FACT)]


class Asked:
    """A plain retriever that keeps what it was asked."""

    def __init__(self, *found: object, seconds: float = 0.0, error: Exception | None = None) -> None:
        self.found, self.seconds, self.error = list(found), seconds, error
        self.questions: list[str] = []

    def __call__(self, question: str) -> list[object]:
        self.questions.append(question)
        time.sleep(self.seconds)
        if self.error:
            raise self.error
        return self.found


async def async_function(question: str) -> list[str]:
    return [FACT]


Make = Any


@pytest.fixture
def kaelum_with(tmp_path: Path, encoder: Encoder, sandbox: ProcessSandbox) -> Generator[Make]:
    made: list[Kaelum] = []

    def make(retriever: AnyRetriever | None, script: Any = None, **settings: object) -> Kaelum:
        folders = {"data_dir": tmp_path / "data", "cache_dir": tmp_path / "cache"}
        kaelum = Kaelum(
            Settings.model_validate({"seed": 1, "worker": "factual", "sims": 4, **folders, **settings}),
            model=ScriptedModel(script or always(SAYS)),
            encoder=encoder,
            sandbox=sandbox,
            retriever=retriever,
        )
        made.append(kaelum)
        return kaelum

    yield make
    for kaelum in made:
        kaelum.close()


def prompts(kaelum: Kaelum) -> list[str]:
    model = kaelum.services.model
    assert isinstance(model, ScriptedModel)
    return [request.messages[-1].content for request in model.requests]


@pytest.mark.parametrize(
    "retriever",
    [
        SyncRetriever(),
        AsyncRetriever(),
        RunnableLambda(lambda question: [Document(page_content=FACT)]),
        RunnableLambda(async_function),
        async_function,
        lambda question: [FACT],
        lambda question: (Passage(text=FACT),),
        lambda question: [{"page_content": FACT, "metadata": {"source": "a"}}],
        lambda question: [{"text": FACT, "url": "a"}],
    ],
)
def test_any_retriever_gives_passages(retriever: AnyRetriever) -> None:
    adapted = AdaptedRetriever(retriever, seconds=5)
    assert [passage.text for passage in adapted(CAPITAL)] == [FACT]
    assert [passage.text for passage in adapted(CAPITAL)] == [FACT]


@pytest.mark.parametrize("found", ["one text", None, 5, [5], {"text": "x"}])
def test_what_is_no_list_of_documents_is_refused(found: object) -> None:
    with pytest.raises(TypeError, match="it gave a"):
        AdaptedRetriever(lambda question: found, seconds=5)("q")


def test_a_type_error_of_the_retriever_itself_is_not_hidden() -> None:
    def broken(question: str) -> list[str]:
        raise TypeError("a mistake inside")

    with pytest.raises(TypeError, match="a mistake inside"):
        AdaptedRetriever(RunnableLambda(broken), seconds=5)("q")


def test_something_else_is_refused_when_it_is_given(kaelum_with: Make) -> None:
    with pytest.raises(UsageError, match="retriever is a int"):
        kaelum_with(5)


def test_sources_reach_the_prompt_the_evidence_and_the_answer(kaelum_with: Make) -> None:
    kaelum = kaelum_with(SyncRetriever(), cycle(SAYS, OTHER, SAYS, OTHER))
    events = list(kaelum.stream(CAPITAL))
    answer = events[-1]
    assert isinstance(answer, Answer)
    assert all(f"[1] Atlas: {FACT}\n\nQuestion: {CAPITAL}" in prompt for prompt in prompts(kaelum))
    assert answer.answer == "Canberra", "the passage decides where the votes are even"
    assert answer.status == "unverified", "what a retriever finds is no anchor, whatever its metadata say"
    assert ("pass", "X") in {(vote.outcome, vote.tier) for vote in answer.evidence if vote.source == "sources"}
    (source,) = answer.sources
    assert (source.text, source.source, source.title, source.supports) == (FACT, "atlas.pdf", "Atlas", True)
    assert "[1] Atlas (atlas.pdf)  (supports the answer)" in story(answer)
    assert Answer.from_json(answer.to_json()) == answer
    told = [event.data for event in events if isinstance(event, Progress) and event.stage == "sources"]
    assert told == [{"id": answer.id, "state": "asked"}, {"id": answer.id, "state": "found", "passages": 1}]


def test_a_trusted_retriever_verifies(kaelum_with: Make) -> None:
    answer = kaelum_with(SyncRetriever(), cycle(OTHER, SAYS, OTHER, OTHER), trust_sources=True).ask(CAPITAL)
    assert (answer.answer, answer.status) == ("Canberra", "verified")


def test_it_is_asked_once_with_the_last_turn_and_only_for_a_worker_that_reads(kaelum_with: Make) -> None:
    asked = Asked(FACT)
    kaelum = kaelum_with(asked, cycle(SAYS, OTHER), wave_size=2)
    kaelum.ask(CAPITAL, history=[Message("user", "Hello."), Message("assistant", "Hello.")])
    assert asked.questions == [CAPITAL]
    answer = kaelum.ask(CAPITAL, worker="math")
    assert asked.questions == [CAPITAL]
    assert answer.sources == ()


@pytest.mark.parametrize(
    ("retriever", "notice"),
    [
        (Asked(error=RuntimeError("the index is gone\nand more")), "failed (RuntimeError: the index is gone)"),
        (Asked(5), "failed (TypeError: it gave a int among the documents)"),
        (Asked(FACT, seconds=20), "gave nothing in 0.3 s"),
    ],
)
def test_a_bad_retriever_leaves_a_notice_and_the_answer(kaelum_with: Make, retriever: Asked, notice: str) -> None:
    started = time.monotonic()
    answer = kaelum_with(retriever, retriever_timeout=0.3).ask(CAPITAL)
    assert time.monotonic() - started < 5
    assert answer.answer == "Canberra"
    assert answer.sources == ()
    assert any(notice in each for each in answer.notices)
    assert not any("\n" in each for each in answer.notices)


def test_an_async_retriever_that_is_slow_is_cancelled(kaelum_with: Make) -> None:
    ended: list[str] = []

    async def slow(question: str) -> list[str]:
        import asyncio

        try:
            await asyncio.sleep(30)
        finally:
            ended.append(question)
        return [FACT]

    answer = kaelum_with(slow, retriever_timeout=0.3).ask(CAPITAL)
    assert "gave nothing" in answer.notices[0] or "TimeoutError" in answer.notices[0]
    end = time.monotonic() + 5
    while not ended and time.monotonic() < end:
        time.sleep(0.02)
    assert ended == [CAPITAL]


def test_a_deadline_and_a_cancellation_end_the_wait(kaelum_with: Make) -> None:
    kaelum = kaelum_with(Asked(FACT, seconds=20))
    started = time.monotonic()
    assert kaelum.ask(CAPITAL, deadline=2, cache=False).answer == "Canberra"
    token = CancelToken()
    token.cancel()
    kaelum.ask(CAPITAL, cancel=token, cache=False)
    assert time.monotonic() - started < 5


def test_passages_are_bounded_by_number_length_and_context(kaelum_with: Make) -> None:
    long = [f"{number} {'word ' * 300}" for number in range(9)]
    kaelum = kaelum_with(Asked(*long))
    answer = kaelum.ask(CAPITAL)
    assert len(answer.sources) == 4
    assert all(len(source.text) <= 600 for source in answer.sources)
    narrow = kaelum_with(Asked(*long), max_tokens=3600)  # of a context of 4,096 words
    answer = narrow.ask(CAPITAL)
    assert 0 < len(answer.sources) < 4
    assert "leaves room for" in answer.notices[0]


def test_the_answer_of_a_callers_retriever_is_not_cached_and_not_served_without_one(kaelum_with: Make) -> None:
    asked = Asked(FACT)
    kaelum = kaelum_with(asked)
    assert kaelum.ask(CAPITAL).cache == "miss"
    assert kaelum.ask(CAPITAL).cache == "miss"
    plain = kaelum_with(None)
    assert plain.ask(CAPITAL).cache == "miss"
    assert plain.ask(CAPITAL).cache == "hit"
    assert kaelum.ask(CAPITAL).cache == "miss"


def test_a_folder_of_documents_is_cached_until_it_changes(kaelum_with: Make, tmp_path: Path) -> None:
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "australia.md").write_text(f"# Australia\n\n{FACT}\n")
    kaelum = kaelum_with(None, documents=folder)
    first = kaelum.ask(CAPITAL)
    assert (first.sources[0].source, first.sources[0].supports) == ("australia.md", True)
    second = kaelum.ask(CAPITAL)
    assert (second.cache, second.sources) == ("hit", first.sources)
    (folder / "more.txt").write_text("Kangaroos live in Australia.")
    assert kaelum.ask(CAPITAL).cache == "miss"
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    answer = kaelum.ask(CAPITAL)
    assert answer.answer == "Canberra"
    assert "expected a folder" in answer.notices[0]


@pytest.mark.parametrize("name", ["missing", "file.txt", "empty"])
def test_a_bad_folder_is_one_error_before_anything_is_loaded(tmp_path: Path, name: str) -> None:
    (tmp_path / "file.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="documents has value"):
        Kaelum(Settings(documents=tmp_path / name))


def test_the_command_line_says_so_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "--documents", str(tmp_path / "missing"), "q"]) == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.count("\n") == 1
    assert "expected a folder with .txt or .md files" in written.err
