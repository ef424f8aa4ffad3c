"""How much of what was found a small model is shown."""

from __future__ import annotations

from kaelum_graph.retrieval import MOST_CHARACTERS, Passage, excerpt, excerpts, numbered
from kaelum_graph.types import Query
from kaelum_graph.workers import worker


def test_a_short_text_is_kept_and_a_long_one_cut_to_where_the_question_is() -> None:
    filler = "Nothing of interest happens in this sentence at all. " * 40
    text = f"{filler}The capital of Australia is Canberra. {filler}"
    assert excerpt("Two\n lines.", "q") == "Two lines."
    found = excerpt(text, "What is the capital of Australia?")
    assert "Canberra" in found
    assert 0.9 * MOST_CHARACTERS < len(found) <= MOST_CHARACTERS
    assert len(excerpt("x" * 5000, "q")) <= MOST_CHARACTERS


def test_the_window_reaches_back_where_the_text_ends() -> None:
    text = "Nothing of interest happens here. " * 40 + "The capital of Australia is Canberra."
    found = excerpt(text, "What is the capital of Australia?")
    assert found.endswith("Canberra.")
    assert len(found) > 0.8 * MOST_CHARACTERS


def test_four_passages_each_once_and_none_that_is_blank() -> None:
    texts = ["a", " ", "b", "a", "c", "\ud800d", "e"]
    found = excerpts([Passage(text=text) for text in texts], "q")
    assert [passage.text for passage in found] == ["a", "b", "c", "?d"]


def test_a_label_cites_title_and_source() -> None:
    assert Passage(text="t", title="Atlas", source="atlas.md").label == "Atlas (atlas.md)"
    assert Passage(text="t", source="atlas.md").label == "atlas.md"
    assert Passage(text="t").label == ""


def test_the_factual_prompt_shows_the_passages_before_the_question_and_only_then() -> None:
    factual = worker("factual")
    assert factual.uses_sources
    passages = (Passage(text="It says {query} here.", title="Atlas"), Passage(text="Two."))
    shown = factual.prompt(Query(text="What is it?", sources=passages), reflection="too long").messages
    assert numbered(passages) == "[1] Atlas: It says {query} here.\n\n[2] Two."
    assert shown[-1].content.startswith(f"{numbered(passages)}\n\nQuestion: What is it?\n\nEarlier attempts failed")
    assert "passages" in shown[0].content
    assert factual.prompt(Query(text="What is it?")).messages[-1].content == "What is it?"
