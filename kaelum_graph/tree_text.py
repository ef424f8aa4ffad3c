"""The tree of a stored episode, drawn as text.

A line has a node's visits, its mean value and its step. Steps that follow one another without a fork share a line, a
rollout's answer and votes stand under its last step, rollouts that are alike are drawn once and counted. So a tree of
64 rollouts fits a few screens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len, set_cell_size

from kaelum_graph.evidence import Evidence
from kaelum_graph.reward import path_score
from kaelum_graph.tree import ROOT, Node, Rollout, SearchTree
from kaelum_graph.types import Json, NodeId

MOST_ALIKE = 3
"""Rollouts below one node with the same answer and the same outcome that are drawn; of the others the count is told."""
MOST_SIBLINGS = 12
"""Single rollouts below one node that are drawn."""
MOST_ANSWERS = 12
INDENT = 3

STOP_WORDS = {
    "verified": "stopped on a passed check",
    "margin": "stopped on a clear lead",
    "budget": "all rollouts used",
    "tokens": "token budget used",
    "deadline": "stopped at the deadline",
    "cancelled": "interrupted",
    "cache": "from the cache",
}
OUTCOMES = {"pass": "passed", "fail": "failed", "unscored": "unscored"}

# Joiners shape emoji and many scripts, and move nothing.
_JOINERS = "\u200c\u200d"
_STYLES = {"good": "\x1b[32m", "bad": "\x1b[31m", "chosen": "\x1b[1;32m", "dim": "\x1b[2m", "": ""}
_RESET = "\x1b[0m"
_ASCII = str.maketrans({"│": "|", "├": "|", "└": "`", "─": "-", "→": ">", "★": "*", "…": "~", "×": "x", "·": "-"})


def escaped(text: str) -> str:
    """`text` on one line: white space as one space, whatever a terminal might obey or hide as its escape code."""
    line = re.sub(r"[ \t\r\n\xa0]+", " ", text).strip()
    return "".join(letter if letter.isprintable() or letter in _JOINERS else _code(letter) for letter in line)


def stop_words(reason: str) -> str:
    """Why a search ended, in words."""
    return STOP_WORDS.get(reason, reason)


def cost_words(cost: Json) -> str:
    """What an answer took; `cost` has the fields of `Cost`."""
    return (
        f"{_count(cost['rollouts'], 'rollout')} in {_count(cost['waves'], 'wave')}, "
        f"{cost['prompt_tokens']:,} + {_count(cost['completion_tokens'], 'token')}, {cost['seconds']:.1f} s"
    )


def draw(record: Json, *, width: int = 120, color: bool = False, unicode: bool = True, whole: bool = False) -> str:
    """The tree of an episode's record, and under it the answers, the stop reason and the cost. No newline at the end.

    Lines are at most `width` columns; `color` adds escape sequences, which take none. Without `unicode` the drawing's
    own characters are ASCII. `whole` draws every rollout. Raises
    `pydantic.ValidationError` or `KeyError` for a record without a readable tree.
    """
    drawing = _Drawing(record, whole=whole)
    lines = [*drawing.heading(), _EMPTY, *drawing.tree_lines(), *drawing.footing()]
    return "\n".join(line.shown(width, color=color, unicode=unicode) for line in lines)


@dataclass(frozen=True, slots=True)
class _Line:
    """`ours` is the drawing's own, `text` is cut where the line is too long, `after` stays whole at its end."""

    ours: str
    text: str = ""
    after: str = ""
    style: str = ""

    def shown(self, width: int, *, color: bool, unicode: bool) -> str:
        ours = _cut(self.ours, width)
        after = _cut(self.after, width - cell_len(ours))
        line = (ours + _cut(self.text, width - cell_len(ours) - cell_len(after)) + after).rstrip()
        line = line if unicode else line.translate(_ASCII)
        return f"{_STYLES[self.style]}{line}{_RESET}" if color and self.style and line else line


_EMPTY = _Line("")


@dataclass(frozen=True, slots=True)
class _Ending:
    """One or more rollouts that came the same way to the same end. `nodes`: their steps below the node drawn before."""

    nodes: tuple[Node, ...]
    rollouts: tuple[Rollout, ...]


class _Drawing:
    """One record on its way to lines."""

    def __init__(self, record: Json, *, whole: bool) -> None:
        self.answer: Json = record["answer"]
        self.record = record
        self.whole = whole
        self.tree = SearchTree.from_json(record["tree"])
        self.ends = _ends(self.tree)
        self.alternatives: list[Json] = self.answer.get("alternatives") or []
        self.letters = {
            rollout: _letter(index)
            for index, item in enumerate(self.alternatives)
            for rollout in item.get("rollouts") or ()
        }
        verdict: Json = record.get("verdict") or {}
        self.chosen: int | None = verdict.get("rollout")
        self.common = _common_unscored(self.tree.rollouts)

    def heading(self) -> Iterator[_Line]:
        answer, tree = self.answer, self.tree
        yield _Line("", escaped(answer["query"]))
        parts = [f"episode {escaped(str(answer['id']))}", escaped(answer["model"])]
        parts.append(_count(len(tree.rollouts), "rollout"))
        if earlier := self.record.get("continued_from"):
            parts.append(f"continued from {escaped(str(earlier))}")
        yield _Line("", " · ".join(parts), style="dim")
        for reflection in self.record.get("reflections") or ():
            yield _Line("reflected on: ", escaped(reflection), style="dim")

    def tree_lines(self) -> Iterator[_Line]:
        yield _Line("visits value", style="dim")
        root = self.tree.nodes[ROOT]
        yield self._node_line([root], "", "question")
        yield from self._below(root, "")
        yield _EMPTY
        for vote in self.common:
            yield _Line("not checked: ", _vote(vote, outcome=False), style="dim")

    def footing(self) -> Iterator[_Line]:
        answer = self.answer
        if self.alternatives:
            yield _Line("answers", style="dim")
        most = len(self.alternatives) if self.whole else MOST_ANSWERS
        shown = self.alternatives[:most]
        for index, item in enumerate(shown):
            style = "chosen" if index == 0 and answer["status"] != "unsure" else ""
            place = f"{'★' if index == 0 else ' '} {_letter(index):>2}"
            figures = f"{item['share']:4.0%}  P(correct) {item['confidence']:.2f}"
            yield _Line(f"{place}  {figures}  ", escaped(item["answer"]), style=style)
        if len(self.alternatives) > len(shown):
            yield _Line(f"      … and {len(self.alternatives) - len(shown)} more")
        if not self.alternatives:
            yield _Line("no answer was reached")
        yield _Line(f"{stop_words(answer['stop_reason'])}; {cost_words(answer['cost'])}")

    def _below(self, node: Node, guide: str) -> Iterator[_Line]:
        """Everything under a node that is drawn already."""
        yield from self._results(self.ends.get(node.id, ()), guide)
        branches: list[list[Node]] = []
        endings: list[_Ending] = []
        for child in self.tree.children(node):
            chain = self._chain(child)
            last = chain[-1]
            rollouts = self.ends.get(last.id, [])
            if last.children or not rollouts or (len(chain) == 1 and child.parent == ROOT):
                branches.append(chain)
            else:
                endings.append(_Ending(tuple(chain), tuple(rollouts)))
        endings, left_out = self._without_the_many(_merged(endings))
        items: list[list[Node] | _Ending | str] = [*branches, *endings, *left_out]
        for index, item in enumerate(items):
            last = index == len(items) - 1
            mark, inner = guide + ("└─ " if last else "├─ "), guide + ("   " if last else "│  ")
            if isinstance(item, str):
                yield _Line(f"{'':12} {mark}{item}", style="dim")
            elif isinstance(item, _Ending):
                yield self._node_line(item.nodes, mark, times=len(item.rollouts))
                yield from self._results(item.rollouts, inner, merged=True)
            else:
                name = escaped(str(item[0].worker)) if item[0].parent == ROOT else ""
                yield self._node_line(item, mark, name)
                yield from self._below(item[-1], inner)

    def _chain(self, node: Node) -> list[Node]:
        """A node and those below it down to the first fork or rollout's end; a worker's own node stands alone."""
        chain = [node]
        while node.parent != ROOT and len(node.children) == 1 and node.id not in self.ends:
            node = self.tree.nodes[node.children[0]]
            chain.append(node)
        return chain

    def _node_line(self, chain: Sequence[Node], mark: str, name: str = "", times: int = 1) -> _Line:
        first = chain[0]
        visits = first.visits * times if times > 1 else first.visits
        more = f" (+{_count(len(chain) - 1, 'step')})" if len(chain) > 1 else ""
        text = name or escaped(first.text) or "(nothing)"
        same = f"  ×{times}" if times > 1 else ""
        return _Line(f"{visits:6} {first.mean_value:5.2f} {mark}", text, more + same)

    def _results(self, rollouts: Sequence[Rollout], guide: str, *, merged: bool = False) -> Iterator[_Line]:
        """What rollouts came to, a line each; `merged` ones came to the same and share a line."""
        if merged and rollouts:
            yield self._result(rollouts, guide)
            return
        for rollout in rollouts:
            yield self._result([rollout], guide)

    def _result(self, rollouts: Sequence[Rollout], guide: str) -> _Line:
        first = rollouts[0]
        candidate, simulation = first.candidate, first.simulation
        chosen = any(rollout.id == self.chosen for rollout in rollouts)
        target = simulation.target
        parts: list[str] = []
        if simulation.operator == "verify" and target is not None:
            parts.append(f"checks rollout {target}")
        elif candidate.answer is None:
            parts.append("no answer" + (f": {_cut(escaped(candidate.error), 60)}" if candidate.error else ""))
        else:
            letter = self.letters.get(first.id)
            parts.append(_cut(escaped(candidate.answer), 48) + (f" [{letter}]" if letter else ""))
        if chosen:
            parts[0] += " ★ chosen"
        parts.append(f"{'rollouts' if len(rollouts) > 1 else 'rollout'} {', '.join(str(one.id) for one in rollouts)}")
        if simulation.operator not in ("sample", "verify"):
            parts.append(simulation.operator + (f" of rollout {target}" if target is not None else ""))
        # What was checked comes before what could not be.
        votes = [vote for vote in first.evidence if vote.tier.anchored and vote not in self.common]
        parts.extend(_vote(vote) for vote in sorted(votes, key=lambda vote: vote.outcome == "unscored"))
        score = path_score(first.step_scores)
        if score is not None:
            parts.append(f"{score.source} {score.value:.2f}")
        if first.finish not in ("stop", "error"):
            parts.append(f"cut off ({escaped(first.finish)})")
        style = "chosen" if chosen else {"pass": "good", "fail": "bad"}.get(_outcome(first) or "", "")
        return _Line(f"{'':12} {guide}→ ", " · ".join(parts), style=style)

    def _without_the_many(self, endings: list[_Ending]) -> tuple[list[_Ending], list[str]]:
        """The endings to draw, and a line for each kind of those left out. The chosen one is always drawn."""
        if self.whole:
            return endings, []
        kinds: dict[tuple[str, str], list[_Ending]] = {}
        for ending in endings:
            kinds.setdefault(self._kind(ending.rollouts[0]), []).append(ending)
        kept: list[_Ending] = []
        told: list[str] = []
        for (name, outcome), group in kinds.items():
            ordered = sorted(group, key=lambda ending: not self._is_chosen(ending))
            shown = ordered[:MOST_ALIKE] if len(group) > MOST_ALIKE + 1 else ordered
            kept.extend(shown)
            if rest := sum(len(ending.rollouts) for ending in ordered[len(shown) :]):
                told.append(f"… {_count(rest, 'more rollout')}: {name}{f', {outcome}' if outcome else ''}")
        if len(kept) > MOST_SIBLINGS + 1:
            ordered = sorted(kept, key=lambda ending: not self._is_chosen(ending))
            kept, cut = ordered[:MOST_SIBLINGS], ordered[MOST_SIBLINGS:]
            told.append(f"… {_count(sum(len(ending.rollouts) for ending in cut), 'more rollout')}")
        return sorted(kept, key=lambda ending: ending.rollouts[0].id), told

    def _kind(self, rollout: Rollout) -> tuple[str, str]:
        """What rollouts of one kind have in common: the answer and how the checks went."""
        answer = rollout.candidate.answer
        if rollout.simulation.operator == "verify":
            name = "checks of other rollouts"
        elif answer is None:
            name = "no answer"
        else:
            letter = self.letters.get(rollout.id)
            name = f"answer {letter}" if letter else _cut(escaped(answer), 40)
        return name, OUTCOMES.get(_outcome(rollout) or "", "")

    def _is_chosen(self, ending: _Ending) -> bool:
        return any(rollout.id == self.chosen for rollout in ending.rollouts)


def _ends(tree: SearchTree) -> dict[NodeId, list[Rollout]]:
    """The rollouts that ended at each node.

    A rollout names the node it began at; `SearchTree.complete` is followed from there, rollout by rollout, because a
    step that ended one rollout is not shared by the next.
    """
    seen: set[NodeId] = set()
    ends: dict[NodeId, list[Rollout]] = {}
    for rollout in tree.rollouts:
        node = tree.nodes[rollout.simulation.node_id]
        for step in rollout.steps:
            same = [child for child in tree.children(node) if child.text == step]
            known = next((child for child in same if child.id in seen and not child.terminal), None)
            following = known or next((child for child in same if child.id not in seen), None)
            if following is None:
                break
            node = following
            seen.add(node.id)
        ends.setdefault(node.id, []).append(rollout)
    return ends


def _merged(endings: Sequence[_Ending]) -> list[_Ending]:
    """Endings with the same steps, answer and votes as one."""
    groups: dict[Any, list[_Ending]] = {}
    for ending in endings:
        first = ending.rollouts[0]
        texts = tuple(node.text for node in ending.nodes)
        key = (texts, first.candidate.answer, first.candidate.error, first.evidence, first.simulation.operator)
        groups.setdefault(key if len(ending.rollouts) == 1 else first.id, []).append(ending)
    return [
        _Ending(group[0].nodes, tuple(rollout for ending in group for rollout in ending.rollouts))
        for group in groups.values()
    ]


def _common_unscored(rollouts: Sequence[Rollout]) -> list[Evidence]:
    """Votes that say of every answer alike that it could not be checked, in the order they came: they are told once."""
    said: dict[str, set[Evidence]] = {}
    for rollout in rollouts:
        for vote in rollout.evidence:
            if vote.tier.anchored:
                said.setdefault(vote.source, set()).add(vote)
    return [vote for votes in said.values() if len(votes) == 1 for vote in votes if vote.outcome == "unscored"]


def _outcome(rollout: Rollout) -> str | None:
    """ "fail" or "pass" as the anchored votes have it, a fail before a pass; None without one."""
    outcomes = {vote.outcome for vote in rollout.evidence if vote.tier.anchored}
    return "fail" if "fail" in outcomes else "pass" if "pass" in outcomes else None


def _vote(vote: Evidence, *, outcome: bool = True) -> str:
    word = f" {OUTCOMES[vote.outcome]}" if outcome else ""
    return f"{escaped(vote.source)} ({vote.tier}){word}" + (f": {escaped(vote.reason)}" if vote.reason else "")


def _letter(index: int) -> str:
    """A, B, … Z, AA, AB, …"""
    name = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        name = chr(ord("A") + rest) + name
    return name


def _cut(text: str, cells: int) -> str:
    if cell_len(text) <= cells:
        return text
    return set_cell_size(text, cells - 1).rstrip() + "…" if cells > 1 else ""


def _code(letter: str) -> str:
    number = ord(letter)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
