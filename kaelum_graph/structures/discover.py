"""SELF-DISCOVER's three steps (Zhou et al. 2024), for small models: select, adapt, implement; three greedy calls.

The paper gives 39 modules to large models and asks for a JSON structure to be filled in. A small model loses itself in
such a form, so here the outcome is a plan of 2 to 6 plain lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kaelum_graph.models.base import CancelToken, GenerationRequest, PolicyModel, Sample, Sampling
from kaelum_graph.structures.base import numbered
from kaelum_graph.structures.modules import MODULES
from kaelum_graph.structures.reading import FEWEST_LINES, chosen, general, plan_lines
from kaelum_graph.types import Message, Query
from kaelum_graph.workers.base import Worker
from kaelum_graph.workers.conversation import with_structure

MOST_QUESTIONS = 3
MOST_MODULES = 5
QUESTION_CHARACTERS = 400
SELECT_TOKENS, ADAPT_TOKENS, IMPLEMENT_TOKENS = 32, 192, 192

_SYSTEM = "You plan how one kind of question is solved. You never solve a question itself."


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """What the three steps came to. `lines` is None when nothing usable was written; `reason` then says why.

    `tokens` is what the steps wrote in all, `prompt_tokens` what the plan adds to a prompt.
    `interrupted` is True when a deadline or a cancellation cut it short: another time it may well succeed.
    """

    lines: tuple[str, ...] | None
    modules: tuple[str, ...] = ()
    tokens: int = 0
    prompt_tokens: int = 0
    reason: str = ""
    interrupted: bool = False


def discover(
    model: PolicyModel,
    worker: Worker,
    questions: Sequence[str],
    *,
    deadline: float | None = None,
    cancel: CancelToken | None = None,
) -> Discovery:
    """A plan for questions like these (the first three are shown) as `worker` is to answer them. Blocks.

    `deadline` is a `time.monotonic()` instant. Raises `ModelError` when the model is lost, or refuses a request.
    """
    shown = tuple(_short(question) for question in questions[:MOST_QUESTIONS])
    task = f"How they are to be answered:\n{_role(worker, questions[0])}\n\nQuestions of one kind:\n{numbered(shown)}"
    tokens = 0

    def ask(text: str, *, opening: str, max_tokens: int) -> Sample:
        nonlocal tokens
        request = GenerationRequest(
            messages=(Message("system", _SYSTEM), Message("user", f"{task}\n\n{text}")),
            partial_answer=opening,
            sampling=Sampling(temperature=0.0, top_p=1.0, max_tokens=max_tokens, seed=0, logprobs=False),
        )
        generation = model.generate([request], deadline=deadline, cancel=cancel)[0]
        if generation.error is not None:
            raise generation.error
        tokens += generation.samples[0].completion_tokens
        return generation.samples[0]

    names = [module.name for module in MODULES]
    selection = ask(select_text(), opening="Numbers:", max_tokens=SELECT_TOKENS)
    if (stopped := _interrupted(selection, tokens)) is not None:
        return stopped
    picked = chosen(selection.text, names, most=MOST_MODULES)
    if not picked:
        return Discovery(lines=None, tokens=tokens, reason="no module was selected")
    modules = tuple(names[place] for place in picked)
    ways = tuple(f"{MODULES[place].name}: {MODULES[place].text}" for place in picked)

    adapted = ask(adapt_text(ways), opening="1.", max_tokens=ADAPT_TOKENS)
    if (stopped := _interrupted(adapted, tokens)) is not None:
        return stopped
    lines = general(plan_lines(f"1.{adapted.text}", cut=adapted.finish == "length", most=len(ways)), shown)
    # Where the model solved a question instead, the modules as they are still say more than nothing.
    made = ask(implement_text(lines or ways), opening="1.", max_tokens=IMPLEMENT_TOKENS)
    if (stopped := _interrupted(made, tokens)) is not None:
        return stopped
    plan = general(plan_lines(f"1.{made.text}", cut=made.finish == "length"), shown)
    if len(plan) < FEWEST_LINES:
        return Discovery(lines=None, modules=modules, tokens=tokens, reason="no plan of two lines was written")
    return Discovery(lines=plan, modules=modules, tokens=tokens, prompt_tokens=added_tokens(model, plan))


def added_tokens(model: PolicyModel, lines: tuple[str, ...]) -> int:
    """What a plan adds to a prompt."""
    bare, planned = "Answer.", with_structure("Answer.", numbered(lines))
    return max(0, model.count_tokens([Message("system", planned)]) - model.count_tokens([Message("system", bare)]))


def select_text() -> str:
    """What the first call asks."""
    ways = numbered(tuple(f"{module.name}: {module.text}" for module in MODULES))
    return (
        f"Ways of thinking:\n{ways}\n\n"
        f"Which {MOST_MODULES - 2} to {MOST_MODULES} of these ways help most with questions of this kind? "
        "Answer with their numbers alone."
    )


def adapt_text(ways: Sequence[str]) -> str:
    """What the second call asks."""
    return (
        f"Useful ways of thinking:\n{numbered(tuple(ways))}\n\n"
        "Rewrite each of them in one short line, so that it says what to do for questions of this kind. It must fit "
        "all of these questions: use no number and no name out of them, and solve none."
    )


def implement_text(ways: Sequence[str]) -> str:
    """What the third call asks."""
    return (
        f"What helps:\n{numbered(tuple(ways))}\n\n"
        "Make a plan of 2 to 6 steps out of this, in the order in which they are done. Each step is one short line "
        "that begins with a verb. It must fit all of these questions: use no number and no name out of them, and "
        "solve none."
    )


def _role(worker: Worker, question: str) -> str:
    """What the worker tells the model about such a question: its own system message."""
    return worker.prompt(Query(text=question)).messages[0].content


def _short(question: str) -> str:
    text = " ".join(question.split())
    return text if len(text) <= QUESTION_CHARACTERS else text[: QUESTION_CHARACTERS - 1] + "…"


def _interrupted(sample: Sample, tokens: int) -> Discovery | None:
    if sample.finish not in ("deadline", "cancelled"):
        return None
    return Discovery(lines=None, tokens=tokens, reason="it was interrupted", interrupted=True)
