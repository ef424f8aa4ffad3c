"""What the learners see of one answered query: what a live system could see, and nothing else.

A `SeenEpisode` holds evidence and features, never a reference answer and never a model's score as a label. It is built
once, when the query has been answered, and kept beside the episode's record, so that the learned state can be made
again from the log alone.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from kaelum_graph.evidence import Evidence
from kaelum_graph.tree import Operator
from kaelum_graph.types import Array, EpisodeId, Json, WorkerName

STEP_SCALARS = (
    "mean_logprob", "min_logprob", "tail_logprob", "lowest_group_logprob", "mean_entropy", "max_entropy",
    "log_tokens", "place", "observed", "last",
)  # fmt: skip
"""Per step: log-probabilities in nats over the step's generated tokens (their mean, lowest, mean of the last five, and
lowest mean of eight in a row), entropies in nats, log(1 + tokens), the step's place in the turn in (0, 1], whether it
holds a program's output, whether it is the turn's last."""

STATE_SIZE = 128
AUDIT_SHARE = 0.1

_HALF = np.float16
_EVIDENCE = TypeAdapter(tuple[Evidence, ...])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RolloutFeatures:
    """Of the S steps of one rollout: MiniLM `embeddings`, `scalars` in the order of `STEP_SCALARS`, hidden `states`.

    A scalar that can't be known (no log-probabilities from this server) is NaN; `states` is None without a local model.
    """

    embeddings: NDArray[np.float16]  # [S, 384]
    scalars: Array  # [S, len(STEP_SCALARS)]
    states: NDArray[np.float16] | None  # [S, STATE_SIZE]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeenRollout:
    """One rollout. `cluster` numbers the episode's distinct answers from 0, None without an answer; rollouts with equal
    `prefix` grew from one beginning and share its mistakes. `blind`: the reward model had no part in choosing it.
    `rated` are a person's scores in [0, 1] of single steps, counted from 0. `begun`: steps of its text that a branch
    was given; those that `features` and `rated` tell of are the ones after.
    """

    worker: WorkerName
    operator: Operator
    blind: bool
    cluster: int | None
    prefix: int
    evidence: tuple[Evidence, ...]
    tokens: int
    finish: str
    features: RolloutFeatures | None = None
    rated: tuple[tuple[int, float], ...] = ()
    begun: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeenEpisode:
    """One answered query.

    `features` `[398]` are the router's. `probabilities`, `propensities` and `allocation` are the route as it was drawn
    first (see `Route`); `forced` means that the caller named the worker, so the policy had no part in it. `answers` are
    the distinct answers by cluster number; `chosen` is the one that was given, None where none was, and `shown` the
    index of the rollout whose text was. `exhausted`: it ran to its end, and would have whatever the stop head said: to
    its budget, or to an answer that passed an anchored check. `budget`: rollouts that it might have had; 0: as many as
    there are. `model` names the language model that answered.
    """

    id: EpisodeId
    tenant: str = ""
    model: str = ""
    features: Array
    probabilities: Mapping[WorkerName, float]
    propensities: Mapping[WorkerName, float]
    allocation: Mapping[WorkerName, int]
    forced: bool = False
    answers: tuple[str, ...] = ()
    chosen: int | None = None
    shown: int | None = None
    exhausted: bool = False
    budget: int = 0
    rollouts: tuple[SeenRollout, ...]

    @property
    def audit(self) -> bool:
        """Whether it is kept for auditing labels: then nothing may be trained on it. One id in ten, by its hash."""
        return is_audit(self.id)

    def to_bytes(self) -> bytes:
        """A compressed form for a column of the store."""
        arrays: list[NDArray[Any]] = [np.asarray(self.features, dtype=np.float32)]
        rollouts: list[Json] = []
        for rollout in self.rollouts:
            told: Json = {
                "worker": rollout.worker,
                "operator": rollout.operator,
                "blind": rollout.blind,
                "cluster": rollout.cluster,
                "prefix": rollout.prefix,
                "evidence": _EVIDENCE.dump_python(rollout.evidence, mode="json"),
                "tokens": rollout.tokens,
                "finish": rollout.finish,
                "rated": rollout.rated,
                "begun": rollout.begun,
                "steps": None,
            }
            if (made := rollout.features) is not None:
                told |= {"steps": len(made.scalars), "states": made.states is not None}
                arrays += [made.embeddings.astype(_HALF), made.scalars.astype(np.float32)]
                arrays += [] if made.states is None else [made.states.astype(_HALF)]
            rollouts.append(told)
        head: Json = {
            "id": self.id,
            "tenant": self.tenant,
            "model": self.model,
            "probabilities": dict(self.probabilities),
            "propensities": dict(self.propensities),
            "allocation": dict(self.allocation),
            "forced": self.forced,
            "answers": self.answers,
            "chosen": self.chosen,
            "shown": self.shown,
            "exhausted": self.exhausted,
            "budget": self.budget,
            "rollouts": rollouts,
            "features": len(self.features),
        }
        text = json.dumps(head, ensure_ascii=False).encode()
        return zlib.compress(len(text).to_bytes(4, "big") + text + b"".join(array.tobytes() for array in arrays), 6)

    @classmethod
    def from_bytes(cls, data: bytes) -> SeenEpisode:
        """What `to_bytes` wrote. Raises `ValueError` for anything else."""
        try:
            raw = zlib.decompress(data)
        except zlib.error as error:
            raise ValueError(f"not a seen episode: {error}") from error
        size = int.from_bytes(raw[:4], "big")
        at = 4 + size
        head: dict[str, Any] = json.loads(raw[4:at])

        def take(kind: Any, *shape: int) -> NDArray[Any]:
            nonlocal at
            count = int(np.prod(shape))
            array = np.frombuffer(raw, dtype=kind, count=count, offset=at).reshape(shape)
            at += array.nbytes
            return array

        features = take(np.float32, head["features"])
        rollouts: list[SeenRollout] = []
        for told in head["rollouts"]:
            made = None
            if (steps := told.pop("steps")) is not None:
                with_states = told.pop("states")
                made = RolloutFeatures(
                    embeddings=take(_HALF, steps, 384),
                    scalars=take(np.float32, steps, len(STEP_SCALARS)),
                    states=take(_HALF, steps, STATE_SIZE) if with_states else None,
                )
            told["evidence"] = _EVIDENCE.validate_python(told["evidence"])
            told["rated"] = tuple((step, score) for step, score in told.get("rated", ()))
            rollouts.append(SeenRollout(**told, features=made))
        head |= {"features": features, "answers": tuple(head["answers"]), "rollouts": tuple(rollouts)}
        return cls(**head)


def is_audit(episode_id: str) -> bool:
    """Whether the episode of that id is kept for auditing labels."""
    digest = hashlib.sha256(f"audit {episode_id}".encode()).digest()
    return int.from_bytes(digest[:4], "big") < AUDIT_SHARE * 2**32


def clusters_of(episode: SeenEpisode) -> list[list[int]]:
    """The indices of the rollouts of each distinct answer."""
    count = 1 + max((rollout.cluster for rollout in episode.rollouts if rollout.cluster is not None), default=-1)
    groups: list[list[int]] = [[] for _ in range(count)]
    for index, rollout in enumerate(episode.rollouts):
        if rollout.cluster is not None:
            groups[rollout.cluster].append(index)
    return groups


def check_evidence(evidence: Sequence[object]) -> None:
    """Raise `TypeError` unless every vote is `Evidence`: a model's opinion is no label."""
    for vote in evidence:
        if not isinstance(vote, Evidence):
            raise TypeError(f"expected Evidence, got {type(vote).__name__}: a model's opinion is no evidence")
