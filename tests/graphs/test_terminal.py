"""The block under an answer and the live line, as text."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from kaelum_flow.terminal import LiveLine, figures, one_line, printable, story, tokens_per_second
from kaelum_graph.answer import Alternative, Answer, Cost, Progress
from kaelum_graph.evidence import Evidence, Tier
from kaelum_graph.types import EpisodeId, WorkerName

ANSWER = Answer(
    id=EpisodeId("e1"),
    query="What is 2+2?",
    text="It is 4.",
    answer="4",
    status="verified",
    confidence=0.971,
    worker=WorkerName("math"),
    route={"code": 0.2, "math": 0.7, "logic": 0.06, "factual": 0.04},
    cache="miss",
    stop_reason="margin",
    model="qwen2.5-coder-0.5b",
    evidence=(
        Evidence(tier=Tier.EXECUTION, source="tests", outcome="unscored", reason="the query has no tests"),
        Evidence(tier=Tier.CONSTRAINT, source="arithmetic", outcome="pass", reason="2+2 = 4"),
    ),
    alternatives=(
        Alternative(answer="4", share=0.75, confidence=0.97),
        Alternative(answer="5", share=0.25, confidence=0.02),
    ),
    cost=Cost(prompt_tokens=1200, completion_tokens=500, rollouts=8, waves=1, seconds=4.0),
)


def test_the_story_says_what_is_claimed_why_and_at_what_cost() -> None:
    assert story(ANSWER).splitlines() == [
        "  answer    4",
        "  status    verified, P(correct) 0.97, stopped on a clear lead",
        "  route     math (math 0.70, code 0.20, logic 0.06)",
        "  checks    pass      arithmetic (V): 2+2 = 4",
        "            unscored  tests (E): the query has no tests",
        "  other     5 (25% of the rollouts, P 0.02)",
        "  cost      8 rollouts in 1 wave, 1,200 + 500 tokens, 4.0 s (125 tokens/s)",
        "  model     qwen2.5-coder-0.5b",
        "  id        e1  (kaelum --feedback e1 --score 1)",
    ]


def test_the_story_of_a_poor_answer() -> None:
    poor = replace(
        ANSWER,
        answer=None,
        status="unsure",
        evidence=(),
        alternatives=(),
        cache="hit",
        cost=Cost(),
        recorded=False,
        notices=("the disk is full",),
        route={},
    )
    text = story(poor)
    assert "answer" not in text
    assert "not sure, P(correct) 0.97, from the cache" in text
    assert "  checks    none" in text
    assert "  route     math\n" in text
    assert "0 rollouts in 0 waves, 0 + 0 tokens, 0.0 s\n" in text
    assert "  note      the disk is full" in text
    assert "--feedback" not in text
    assert tokens_per_second(poor) == 0.0


@pytest.mark.parametrize(
    ("status", "word"), [("verified", "verified"), ("unverified", "agreed"), ("unsure", "not sure")]
)
def test_status_words(status: str, word: str) -> None:
    assert f"status    {word}, " in story(Answer.from_json({**ANSWER.to_json(), "status": status}))


def test_many_checks_are_cut_and_said_so() -> None:
    vote = Evidence(tier=Tier.CLUSTER, source="vote", outcome="pass")
    text = story(replace(ANSWER, evidence=(vote,) * 9))
    assert text.count("vote (C)") == 6
    assert "and 3 more (--json shows all)" in text


def test_a_models_escape_sequences_do_not_reach_the_terminal() -> None:
    assert printable("a\x1b]0;title\x07b\r\nc\td\x9b2J") == "a]0;titleb\nc\td2J"
    assert "\x1b" not in story(replace(ANSWER, answer="\x1b[2J", model="\x1b[31m"))


def test_one_line() -> None:
    assert one_line(" a\n  b\t c ") == "a b c"
    assert one_line("x" * 200, limit=10) == "x" * 9 + "…"


def test_figures_are_aligned() -> None:
    assert figures({"episodes": 1200, "cache_entries": 3, "seconds": 0.25}) == (
        "  episodes       1,200\n  cache entries  3\n  seconds        0.25"
    )
    assert figures({}) == ""


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def wave(**data: object) -> Progress:
    return Progress(stage="wave", data={"wave": 1, "rollouts": 0, "budget": 32, "leader": None, "share": 0.0, **data})


def test_the_live_line_tells_how_far_the_search_is() -> None:
    clock = Clock()
    line = LiveLine(io.StringIO(), clock=clock)
    assert line.text() == "starting · 0 s"
    assert not line.searching
    clock.now += 5
    line.update(Progress(stage="cache", data={"state": "miss"}))
    assert line.text() == "looking in the cache · 5 s"
    line.update(Progress(stage="route", data={"worker": "math", "probabilities": {}, "rollouts": 32, "depth": 4}))
    assert line.text() == "searching with math · 5 s"
    line.update(wave(tokens=50))
    assert line.searching
    clock.now += 10
    line.update(wave(wave=2, rollouts=16, leader="42", share=0.75, tokens=1050))
    # The rate leaves out the five seconds before the first tokens.
    assert line.text() == "searching · wave 2 · 16/32 rollouts · leading 42 (75%) · 100 tokens/s · 15 s"
    line.update(Progress(stage="verify", data={"status": "unsure", "confidence": 0.1, "reason": ""}))
    assert line.text().startswith("verifying · wave 2")
    line.update(Progress(stage="reflect", data={"reason": "the sum\nis wrong"}))
    assert line.text().startswith("reflecting on: the sum is wrong · ")


def test_the_live_line_shows_on_a_terminal_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    terminal = Terminal()
    with LiveLine(terminal) as line:
        line.update(wave(leader="\x1b[31mred", share=1.0, rollouts=8, tokens=9))
        line.say("kaelum: model: tiny")
    written = terminal.getvalue()
    assert "kaelum: model: tiny" in written
    assert "8/32 rollouts · leading [31mred (100%)" in written
    assert written.endswith("\x1b[2K")  # erased
    line.close()
    line.say("later")
    assert terminal.getvalue().endswith("later\n")


@pytest.mark.parametrize(
    ("terminal", "term", "enabled"), [(False, "xterm", True), (True, "dumb", True), (True, "xterm", False)]
)
def test_the_live_line_is_silent_elsewhere(
    terminal: bool, term: str, enabled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", term)
    stream = Terminal() if terminal else io.StringIO()
    with LiveLine(stream, enabled=enabled) as line:
        line.update(wave(leader="42", share=1.0))
        line.say("kaelum: a notice " + "that is long " * 20)
    assert stream.getvalue() == "kaelum: a notice " + "that is long " * 20 + "\n"
