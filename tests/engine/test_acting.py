"""Turns pause to look: programs run in the sandbox, and the turn goes on from the true output."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from kaelum_graph.acting import MAX_ACTIONS, Acted, Turn, act
from kaelum_graph.errors import ContextOverflow, SandboxError
from kaelum_graph.models.base import (
    CancelToken,
    Delta,
    Generation,
    GenerationRequest,
    OnDelta,
    PolicyModel,
    Sampling,
)
from kaelum_graph.models.local import LocalPolicyModel
from kaelum_graph.reward import step_scores
from kaelum_graph.sandbox import ProcessSandbox
from kaelum_graph.sandbox.base import Limits, ProgramResult, Sandbox
from kaelum_graph.types import Message
from kaelum_graph.workers import worker
from tests.engine.tiny_models import byte_tokenizer, random_qwen2
from tests.graphs.scripted_model import Script, ScriptedModel

OBSERVE = ("```output",)
PROGRAM = "```python\nprint(6 * 7)\n```\n"
IMAGINED = "```output\n36\n```\nThe answer is \\boxed{36}"
ACTION = PROGRAM + IMAGINED


@pytest.fixture(scope="module")
def sandbox() -> Iterator[ProcessSandbox]:
    sandbox = ProcessSandbox()
    yield sandbox
    sandbox.close()


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(max_workers=4) as pool:
        yield pool


Acting = Callable[..., list[Acted]]


@pytest.fixture
def acting(sandbox: ProcessSandbox, pool: ThreadPoolExecutor) -> Acting:
    """`acting(model, *requests)`: what came of them, pausing at ```output."""

    def run(
        model: PolicyModel,
        *requests: GenerationRequest,
        observe: tuple[str, ...] = OBSERVE,
        sandbox: Sandbox = sandbox,
        deadline: float | None = None,
        cancel: CancelToken | None = None,
        on_delta: OnDelta | None = None,
    ) -> list[Acted]:
        return act(
            model,
            requests,
            [observe] * len(requests),
            sandbox=sandbox,
            pool=pool,
            deadline=deadline,
            cancel=cancel,
            on_delta=on_delta,
        )

    return run


def asking(*, n: int = 1, given: str = "", max_tokens: int = 200, seed: int | None = 1) -> GenerationRequest:
    sampling = Sampling(max_tokens=max_tokens, seed=seed)
    return GenerationRequest(messages=(Message("user", "How many?"),), partial_answer=given, n=n, sampling=sampling)


def going_on(*texts: str) -> Script:
    """The first of `texts` for a turn without an observation, the next for one with one, and so on."""
    return lambda request, k: texts[min(request.partial_answer.count("```output\n"), len(texts) - 1)]


def only_turn(acted: list[Acted]) -> Turn:
    (turn,) = acted[0].turns
    return turn


class TellsNoStop(ScriptedModel):
    """Like a server that cuts stop strings and doesn't say whether it did."""

    def _answer(self, request: GenerationRequest, on_delta: OnDelta | None) -> Generation:
        made = super()._answer(request, on_delta)
        return replace(made, samples=tuple(replace(sample, stopped_by=None) for sample in made.samples))


def test_the_true_output_takes_the_place_of_the_imagined_one(acting: Acting) -> None:
    model = ScriptedModel(going_on("I compute.\n" + ACTION, "So \\boxed{42}"))
    turn = only_turn(acting(model, asking()))
    assert turn.text == f"I compute.\n{PROGRAM}```output\n42\n```\nSo \\boxed{{42}}"
    assert turn.observations == ("42",)
    assert turn.finish == "stop"
    assert model.calls == [1, 1]
    assert model.requests[0].sampling.stop == OBSERVE


def test_an_error_is_observed_and_the_next_try_mends_it(acting: Acting) -> None:
    broken = "```python\nprint(total)\n```\n```output\n5\n```\n"
    model = ScriptedModel(going_on(broken, ACTION, "\\boxed{42}"))
    turn = only_turn(acting(model, asking()))
    assert turn.observations == ("Error: The program failed: line 1: NameError: name 'total' is not defined.", "42")
    assert turn.text.endswith("```output\n42\n```\n\\boxed{42}")


def test_what_is_no_python_is_told_so(acting: Acting) -> None:
    model = ScriptedModel(going_on("```python\nprint(6 *\n```\n```output\n", "Well."))
    (seen,) = only_turn(acting(model, asking())).observations
    assert seen.startswith("Error: The program is no valid Python:")
    assert "\n" not in seen


class Missing(Sandbox):
    def run(self, program: str, *, stdin: str = "", limits: Limits | None = None) -> ProgramResult:
        raise SandboxError("No isolation on this machine.")


def test_without_a_sandbox_the_observation_says_so(acting: Acting) -> None:
    model = ScriptedModel(going_on(ACTION, "\\boxed{36}"))
    turn = only_turn(acting(model, asking(), sandbox=Missing()))
    assert turn.observations == ("Error: No isolation on this machine.",)
    assert turn.text.endswith("\\boxed{36}")


def test_a_turn_looks_no_more_often_than_it_may(acting: Acting) -> None:
    model = ScriptedModel(lambda request, k: ACTION)
    turn = only_turn(acting(model, asking()))
    assert turn.observations == ("42",) * MAX_ACTIONS
    assert len(model.calls) == 1 + MAX_ACTIONS
    assert [request.sampling.stop for request in model.requests] == [OBSERVE] * MAX_ACTIONS + [()]
    assert turn.text.endswith(ACTION)


def test_a_turn_that_ends_on_a_program_by_itself_has_ended(acting: Acting) -> None:
    model = ScriptedModel(lambda request, k: PROGRAM)
    assert only_turn(acting(model, asking())) == only_turn(acting(ScriptedModel(lambda r, k: PROGRAM), asking()))
    assert only_turn(acting(model, asking())).text == PROGRAM
    assert model.calls == [1, 1]


@pytest.mark.parametrize("lead", ["", "\n", "The output is:\n"])
def test_where_nobody_says_what_ended_it_the_text_tells(acting: Acting, lead: str) -> None:
    model = TellsNoStop(going_on(PROGRAM + lead + IMAGINED, "So \\boxed{42}"))
    turn = only_turn(acting(model, asking()))
    assert turn.text == f"{PROGRAM}{lead}```output\n42\n```\nSo \\boxed{{42}}"


@pytest.mark.parametrize("text", [PROGRAM + "So \\boxed{42}", "Done.", "```python\nprint(1)", "```\n42\n```\n"])
def test_what_does_not_end_on_a_program_has_ended(acting: Acting, text: str) -> None:
    model = TellsNoStop(lambda request, k: text)
    assert only_turn(acting(model, asking())).text == text
    assert len(model.calls) == 1


def test_where_nobody_says_what_ended_it_it_ends_all_the_same(acting: Acting) -> None:
    model = TellsNoStop(lambda request, k: PROGRAM)
    assert len(only_turn(acting(model, asking())).observations) == MAX_ACTIONS
    assert len(model.calls) == 1 + MAX_ACTIONS


def test_an_output_without_a_program_stands_as_it_was_meant(acting: Acting) -> None:
    said = "It prints:\n```output\n36\n```\n\\boxed{36}"
    model = ScriptedModel(lambda request, k: said.removeprefix(request.partial_answer))
    turn = only_turn(acting(model, asking()))
    assert (turn.text, turn.observations, len(model.calls)) == (said, (), 2)
    assert model.requests[1].partial_answer == "It prints:\n```output"


def test_a_program_that_the_turn_was_given_counts(acting: Acting) -> None:
    model = ScriptedModel(lambda request, k: IMAGINED if request.partial_answer == PROGRAM else "So \\boxed{42}")
    assert only_turn(acting(model, asking(given=PROGRAM))).text == f"{PROGRAM}```output\n42\n```\nSo \\boxed{{42}}"


def test_without_pauses_it_is_one_call(acting: Acting) -> None:
    model = ScriptedModel(lambda request, k: ACTION)
    acted = acting(model, asking(n=3), asking(), observe=())
    assert [turn.text for outcome in acted for turn in outcome.turns] == [ACTION] * 4
    assert model.calls == [2]
    assert model.requests[0] == replace(asking(n=3), request_id=model.requests[0].request_id)


def test_requests_share_the_call_that_goes_on(acting: Acting) -> None:
    def script(request: GenerationRequest, k: int) -> str:
        if "```output" in request.partial_answer:
            return f"\\boxed{{{k}}}"
        return "plain" if k == 1 else ACTION

    model = ScriptedModel(script)
    acted = acting(model, asking(n=2), asking(n=2))
    assert model.calls == [2, 3]
    assert [[turn.text[-10:] for turn in outcome.turns] for outcome in acted] == [
        ["\n\\boxed{4}", "plain"],
        ["\n\\boxed{5}", "\n\\boxed{6}"],
    ]
    assert [outcome.prompt_tokens for outcome in acted] == [10 + 10, 10 + 20]
    seeds = [request.sampling.seed for request in model.requests[2:]]
    assert len(set(seeds)) == 2, "turns of one request draw differently"
    assert all(seed is not None and 0 <= seed < 2**31 for seed in seeds)


def test_a_turn_has_its_tokens_over_all_calls(acting: Acting) -> None:
    words = len(PROGRAM.split(" "))
    model = ScriptedModel(going_on(ACTION, "So it is"))
    turn = only_turn(acting(model, asking(max_tokens=words + 3)))
    assert model.requests[1].sampling.max_tokens == 3
    assert turn.completion_tokens == words + 3


def test_a_turn_without_tokens_left_was_cut_off(acting: Acting) -> None:
    model = ScriptedModel(lambda request, k: ACTION)
    turn = only_turn(acting(model, asking(max_tokens=len(PROGRAM.split(" ")))))
    assert (turn.text, turn.finish, model.calls) == (PROGRAM, "length", [1])


def test_at_the_deadline_a_paused_turn_stays_as_it_is(acting: Acting) -> None:
    model = ScriptedModel(lambda request, k: ACTION, seconds=0.1)
    turn = only_turn(acting(model, asking(), deadline=time.monotonic() + 0.05))
    assert (turn.text, turn.finish, turn.observations, model.calls) == (PROGRAM, "deadline", (), [1])


def test_the_deadline_is_not_spent_waiting_for_a_program(acting: Acting) -> None:
    endless = "```python\nimport time\ntime.sleep(2)\n```\n"
    begun = time.monotonic()
    turn = only_turn(acting(ScriptedModel(lambda r, k: endless + IMAGINED), asking(), deadline=begun + 0.3))
    assert (turn.text, turn.finish) == (endless, "deadline")


class Watched(Sandbox):
    """Keeps the limits of each program."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.limits: list[Limits | None] = []

    def run(self, program: str, *, stdin: str = "", limits: Limits | None = None) -> ProgramResult:
        self.limits.append(limits)
        return self.sandbox.run(program, stdin=stdin, limits=limits)


def test_no_program_outlives_the_deadline(acting: Acting, sandbox: ProcessSandbox) -> None:
    watched, begun = Watched(sandbox), time.monotonic()
    for seconds in (3.0, 60.0):
        turn = only_turn(
            acting(
                ScriptedModel(going_on(ACTION, "So.")),
                asking(),
                sandbox=watched,
                deadline=begun + seconds,
            )
        )
        assert turn.observations == ("42",)
    time.sleep(max(0.0, begun + 3.0 - time.monotonic()))
    assert [limits.cancelled() for limits in watched.limits if limits and limits.cancelled] == [True, False]


def test_a_cancellation_ends_the_waiting(acting: Acting) -> None:
    cancel = CancelToken()
    slow = "```python\nimport time\ntime.sleep(2)\n```\n"
    model = ScriptedModel(lambda request, k: slow + IMAGINED)
    timer = threading.Timer(0.3, cancel.cancel)
    timer.start()
    begun = time.monotonic()
    turn = only_turn(acting(model, asking(), cancel=cancel))
    timer.join()
    assert time.monotonic() - begun < 1.0
    assert (turn.text, turn.finish, model.calls) == (slow, "cancelled", [1])


class FullContext(ScriptedModel):
    def _answer(self, request: GenerationRequest, on_delta: OnDelta | None) -> Generation:
        if "```output" in request.partial_answer:
            error = ContextOverflow(limit_tokens=10, prompt_tokens=20)
            return Generation(request_id=request.request_id, error=error, prompt_tokens=20)
        return super()._answer(request, on_delta)


def test_a_turn_that_can_not_go_on_ends_on_what_it_saw(acting: Acting) -> None:
    acted = acting(FullContext(lambda request, k: ACTION), asking())
    assert acted[0].error is None
    assert only_turn(acted).text == PROGRAM + "```output\n42\n```\n"


def test_a_failed_request_keeps_its_error(acting: Acting) -> None:
    acted = acting(FullContext(lambda request, k: ACTION), asking(given="```output\n"), asking())
    assert isinstance(acted[0].error, ContextOverflow)
    assert acted[0].turns == ()
    assert len(acted[1].turns) == 1


def test_deltas_belong_to_the_turn_that_was_asked_for(acting: Acting) -> None:
    deltas: list[Delta] = []
    model = ScriptedModel(lambda r, k: "So." if r.partial_answer else ("plain", ACTION)[k])
    request = asking(n=2)
    acting(model, request, on_delta=deltas.append)
    assert {delta.request_id for delta in deltas} == {request.request_id}
    assert [(delta.index, delta.text) for delta in deltas][-1] == (1, "So.")


def test_steps_are_scored_by_what_was_generated_in_them(acting: Acting) -> None:
    model = ScriptedModel(going_on(f"First I look.\n{ACTION}", "Then I answer.\n\\boxed{42}"))
    turn = only_turn(acting(model, asking(given="Given.\n")))
    assert turn.token_texts is not None
    assert turn.token_logprobs is not None
    assert turn.text.endswith("".join(turn.token_texts))
    assert [text for text, p in zip(turn.token_texts, turn.token_logprobs, strict=True) if p is None] == [
        "```output\n42\n```\n"
    ]
    steps = worker("math").split_steps(turn.text)
    assert [step.split("\n")[0] for step in steps] == [
        "Given.",
        "First I look.",
        "```python",
        "Then I answer.",
        "\\boxed{42}",
    ]
    scores = step_scores(steps, turn.token_texts, turn.token_logprobs)
    # The last line begins inside a token of the line before it.
    assert scores == [None, *(pytest.approx(math.exp(-0.5)) for _ in range(3)), None]


def test_a_model_without_log_probabilities_has_none(acting: Acting) -> None:
    class Silent(ScriptedModel):
        def _answer(self, request: GenerationRequest, on_delta: OnDelta | None) -> Generation:
            made = super()._answer(request, on_delta)
            samples = [replace(one, token_texts=None, token_logprobs=None) for one in made.samples]
            return replace(made, samples=tuple(samples))

    turn = only_turn(acting(Silent(going_on(ACTION, "So.")), asking()))
    assert (turn.token_texts, turn.token_logprobs) == (None, None)


@pytest.fixture(scope="module")
def local() -> Iterator[LocalPolicyModel]:
    with LocalPolicyModel(random_qwen2(), byte_tokenizer(), name="tiny", engine="padded") as model:
        yield model


def greedy(given: str, *, max_tokens: int, stop: Sequence[str] = ()) -> GenerationRequest:
    sampling = Sampling(temperature=0, max_tokens=max_tokens, stop=tuple(stop))
    return GenerationRequest(messages=(Message("user", "6 * 7?"),), partial_answer=given, sampling=sampling)


def test_a_local_model_goes_on_from_what_its_program_printed(acting: Acting, local: LocalPolicyModel) -> None:
    free = local.generate([greedy(PROGRAM, max_tokens=24)])[0].samples[0].text
    pause = free[8:11]
    cut = free[: free.index(pause)]
    paused = local.generate([greedy(PROGRAM, max_tokens=24, stop=[pause])])[0]
    assert paused.samples[0].stopped_by == pause
    (acted,) = acting(local, greedy(PROGRAM, max_tokens=24), observe=(pause,))
    (turn,) = acted.turns
    start = PROGRAM + cut + ("" if cut.endswith("\n") else "\n") + "```output\n42\n```\n"
    left = 24 - paused.samples[0].completion_tokens
    after = local.generate([greedy(start, max_tokens=left, stop=[pause])])[0]
    assert turn.text == start + after.samples[0].text
    assert turn.completion_tokens == 24 or turn.finish == "stop"
    assert acted.prompt_tokens == paused.prompt_tokens + after.prompt_tokens
    assert turn.token_texts is not None
    assert PROGRAM + "".join(turn.token_texts) == turn.text
