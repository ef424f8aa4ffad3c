"""`kaelum rate`: what a person says of an earlier answer, kept, changed and taken back.

Nothing heavy is imported before the command runs: `kaelum --help` loads this module.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import TYPE_CHECKING, Any

from kaelum_flow import commands
from kaelum_graph.cli.parser import add_settings_flags, settings_of
from kaelum_graph.errors import UsageError

if TYPE_CHECKING:
    from kaelum_flow.facade import Kaelum
    from kaelum_graph.feedback import Feedback

    Subparsers = argparse._SubParsersAction[Any]

STARS = 5
SOURCE = "cli"
SAID = {
    "kept": "rating kept",
    "changed": "rating changed",
    "unchanged": "the rating says that already",
    "undone": "rating taken back",
    "none": "there was no rating to take back",
}


def register_rate(subparsers: Subparsers) -> None:
    """Add `rate`."""
    parser = subparsers.add_parser(
        "rate",
        help="say how good an earlier answer was, so that it is learned from",
        usage="%(prog)s ID [--good | --bad | --stars N | --score X] [options]",
        description=(
            "Rate a stored answer. An answer has one rating given here: what is said later is added to it, or takes "
            "the place of what it said; the same again changes nothing. Loads no model."
        ),
    )
    parser.add_argument("id", metavar="ID", help="an answer's id, or its beginning (4 characters or more)")
    score = parser.add_mutually_exclusive_group()
    score.add_argument("--good", action="store_true", help="the answer is right (a score of 1)")
    score.add_argument("--bad", action="store_true", help="the answer is wrong (a score of 0)")
    score.add_argument("--stars", type=int, metavar="N", help=f"1 to {STARS} stars: from 4 on praise, up to 2 wrong")
    score.add_argument("--score", type=float, metavar="X", help="how good it is, from 0 to 1")
    parser.add_argument("--answer", metavar="TEXT", help="the right answer")
    parser.add_argument("--worker", metavar="WORKER", help="the worker that should have been asked")
    parser.add_argument(
        "--step",
        action="append",
        default=[],
        metavar="N=X",
        help="the score from 0 to 1 of step N of the answer, counted from 0; may be given many times",
    )
    parser.add_argument("--comment", metavar="TEXT", help="a remark, kept with the rating")
    parser.add_argument("--undo", action="store_true", help="take the rating back, and what it has taught")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_settings_flags(parser, only=("data_dir",))
    parser.set_defaults(run=run_rate)


def run_rate(arguments: argparse.Namespace) -> int:
    """Keep, change or take back the rating, and say which; 0."""
    said = _said(arguments)
    from kaelum_graph.storage import STORE_FILE

    settings = settings_of(arguments).settings
    path = settings.data_dir / STORE_FILE
    if not path.exists():
        raise UsageError(f"{path}: no episode is kept yet: ask something first.")
    with commands.open_kaelum(settings) as kaelum:
        storage = kaelum.services.storage
        episode_id = storage.find_episode_id(arguments.id)
        feedback_id = f"{SOURCE}-{episode_id}"
        if arguments.undo:
            outcome = "undone" if kaelum.delete_feedback(feedback_id) else "none"
        elif kaelum.feedback(episode_id, feedback_id=feedback_id, source=SOURCE, **said):
            outcome = "kept"
        else:
            outcome = _changed(kaelum, feedback_id, said)
        rating = storage.feedback(feedback_id)
    if arguments.json:
        report = {"episode": episode_id, "feedback": feedback_id, "outcome": outcome}
        print(json.dumps({**report, "rating": rating and json.loads(rating.content())}, ensure_ascii=False))
    else:
        print(SAID[outcome])
    return 0


def _changed(kaelum: Kaelum, feedback_id: str, said: dict[str, Any]) -> str:
    """Let a rating that is there say this too."""
    from kaelum_graph.learning.ratings import PASSING_SCORE

    seen: list[Feedback] = []

    def change(before: Feedback) -> Feedback:
        given = {"correction" if name == "answer" else name: value for name, value in said.items() if value is not None}
        given["steps"] = tuple(sorted((dict(before.steps) | dict(said["steps"])).items()))
        if "correction" not in given and given.get("score", 0.0) >= PASSING_SCORE:
            given["correction"] = None  # who praises an answer no longer holds another one to be right
        after = dataclasses.replace(before, **given)
        seen[:] = [before, after]
        return after

    if kaelum.services.storage.update_feedback(feedback_id, change) is None:
        raise UsageError(f"feedback '{feedback_id}' was taken back while it was being changed: rate again.")
    return "changed" if seen[0] != seen[1] else "unchanged"


def _said(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the flags say, as `Kaelum.feedback` takes it. Raises `UsageError`."""
    from kaelum_graph.feedback import score_of_stars
    from kaelum_graph.workers import worker

    if arguments.stars is not None and not 1 <= arguments.stars <= STARS:
        raise UsageError(f"--stars has value {arguments.stars}: expected a number from 1 to {STARS}.")
    if arguments.score is not None and not 0.0 <= arguments.score <= 1.0:
        raise UsageError(f"--score has value {arguments.score:g}: expected a number from 0 to 1.")
    if arguments.answer is not None and not arguments.answer.strip():
        raise UsageError("--answer is empty: expected the right answer.")
    score = arguments.score
    if arguments.good or arguments.bad:
        score = float(arguments.good)
    elif arguments.stars is not None:
        score = score_of_stars(arguments.stars)
    said: dict[str, Any] = {
        "score": score,
        "answer": arguments.answer,
        "worker": arguments.worker,
        "steps": _steps(arguments.step),
        "comment": arguments.comment,
    }
    given = any(value is not None and value != () for value in said.values())
    if arguments.undo and given:
        raise UsageError("--undo takes the whole rating back: leave the other flags out.")
    if not arguments.undo and not given:
        raise UsageError(
            "the rating says nothing without one of --good, --bad, --stars, --score, --answer, --worker, --step, "
            "--comment; or --undo."
        )
    if arguments.worker is not None:
        worker(arguments.worker)
    return said


def _steps(given: list[str]) -> tuple[tuple[int, float], ...]:
    steps: dict[int, float] = {}
    for text in given:
        number, sign, score = text.partition("=")
        try:
            step, value = int(number), float(score)
        except ValueError:
            sign = ""
            step, value = 0, 0.0
        if not sign or step < 0 or not 0.0 <= value <= 1.0:
            raise UsageError(f"--step has value '{text}': expected N=X, a step counted from 0 and a score from 0 to 1.")
        if step in steps:
            raise UsageError(f"--step rates step {step} more than once.")
        steps[step] = value
    return tuple(sorted(steps.items()))
