"""The nodes around the search: embed, cache, route, verify, reflect, feedback, respond."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import cast

from langchain_core.runnables import RunnableConfig
from langgraph.types import StreamWriter

from kaelum_flow.call_search import call_candidates, called
from kaelum_flow.episodes import NO_FULL_RUN, further_route, per_query, read_earlier
from kaelum_flow.lats import cancel_token
from kaelum_flow.messages import answer_message
from kaelum_flow.plans import learn_structures
from kaelum_flow.review import needs_review, review_of
from kaelum_flow.scoring import BLIND_SHARE, PRM, prm_weight, rescored
from kaelum_flow.seen import seen_bytes
from kaelum_flow.services import Services
from kaelum_flow.sources import cited, may_be_kept
from kaelum_flow.state import (
    KaelumState,
    checked_tenant,
    current_options,
    current_query,
    current_request,
    current_route,
    current_tenant,
    packed,
    packed_tree,
    read_called,
    read_request,
    read_tree,
    requested_shape,
    seconds_left,
    tokens_left,
    told_of,
    unpacked,
)
from kaelum_graph.answer import Answer, Cost
from kaelum_graph.cache import Hit
from kaelum_graph.calls import call_key
from kaelum_graph.config import Settings
from kaelum_graph.equality import answers_equal
from kaelum_graph.errors import StorageError
from kaelum_graph.learning.budgets import BEYOND_SHARE, is_beyond
from kaelum_graph.learning.episode import is_audit
from kaelum_graph.learning.service import harmless
from kaelum_graph.reward import SOURCE
from kaelum_graph.storage import CacheEntry
from kaelum_graph.types import Array, EpisodeId, Json, Message, Query, Shape, WorkerName
from kaelum_graph.verdict import Verdict, decide
from kaelum_graph.verifiers import added, unanswered

CACHED_CONFIDENCE = 0.75
"""An answer without an anchored check is kept for serving again from this P(correct) on."""

UNROUTED = "math"
"""The worker of every query where routing is off: its rollouts end in a short answer, so that they can vote."""

LIMITS = ("sims", "effort", "max_tokens")
"""What a caller may set of a search's greatest cost; an answer is not served to who asked for another."""
USUAL = {"sims": None, "effort": None}
"""The limits of who leaves the effort to the router."""

EXHAUSTED = ("budget", "cancelled", "deadline", "tokens")
"""Reasons to halt after which no reflection can be paid for."""


class ForwardNodes:
    """The forward pass's nodes, over one set of services."""

    def __init__(
        self, services: Services, *, options: Mapping[str, object] | None = None, review: bool = False
    ) -> None:
        """`options` hold for queries that say nothing else; with `review` a person is asked where the gate fails."""
        self.services = services
        self._options = dict(options or {})
        self._review = review

    def embed(self, state: KaelumState) -> Json:
        """Take the request in, forget whatever an earlier query left in the state, and embed the question.

        A search that is continued begins with the stored tree, its route and its reflections. Waves are counted on, so
        that a seeded search does not draw the same rollouts again.
        """
        named, tenant = state.get("continue_from"), checked_tenant(state.get("tenant"))
        earlier = None if named is None else read_earlier(self.services.storage, named, tenant=tenant)
        if earlier:
            request = earlier.request(state.get("options") or {})
        else:
            request = read_request(state)
            request["options"] = {**self._options, **request["options"]}
        self.services.settings_for(request["options"])
        # Before the query's time begins: the first one loads the encoder, and may ask a server which model it has.
        features, version = self.services.encoder.features(request["text"]), self.services.state_version
        return {
            "query": None,
            "history": None,
            "since": None,
            "tools": None,
            "tool_choice": None,
            "shape": None,
            "options": None,
            "continue_from": None,
            "tenant": None,
            "earlier": earlier.summary() if earlier else None,
            "request": packed({**request, "tenant": tenant}),
            "episode_id": uuid.uuid4().hex,
            "started_at": time.time(),
            "state_version": version,
            "features": features,
            "called": None,
            "cached": None,
            "shaped": None,
            "sources": None,
            "structures": None,
            "route": earlier.route if earlier else None,
            "tree": packed_tree(earlier.tree) if earlier else None,
            "wave": None,
            "waves": earlier.waves if earlier else 0,
            "prompt_tokens": 0,
            "completion_tokens": 0,
            "reflections": earlier.reflections if earlier else [],
            "halt": None,
            "overruled": None,
            "seconds_before": 0.0,
            "tokens_before": 0,
            "reviewed": None,
            "verdict": None,
            "recorded": True,
            "notices": [],
            "answer": None,
        }

    def cache(self, state: KaelumState, writer: StreamWriter) -> Json:
        """Look for an earlier answer to the same question in the same conversation, unless a search is continued."""
        settings, query = self._settings(state), current_query(state)
        if not settings.cache or state.get("earlier"):
            told_of(state, writer)({"stage": "cache", "state": "off"})
            return {"cached": None}
        features = state.get("features")
        assert features is not None, "the embed node runs first"
        hit = self._hit(state, settings, query, features[:384])
        if hit is None or hit.entry.answer["confidence"] < settings.min_confidence:
            told_of(state, writer)({"stage": "cache", "state": "miss"})
            return {"cached": None}
        if not state.get("called"):
            writer({"stage": "cache", "state": "hit", "similarity": hit.similarity, "id": hit.entry.answer["id"]})
            return {"cached": hit.entry.answer}
        # Turns were sampled, and told of under this query's own id: an episode of its own, which names its source.
        own_id = EpisodeId(state.get("episode_id", ""))
        writer({"stage": "cache", "state": "hit", "similarity": hit.similarity, "id": own_id})
        cached = {**hit.entry.answer, "id": own_id}
        record = {"answer": cached, "served": hit.entry.answer["id"], "called": read_called(state)}
        try:
            self.services.storage.append_episode(own_id, query.text, record, tenant=current_tenant(state))
        except StorageError as error:
            cached = {**cached, "recorded": False, "notices": [*cached["notices"], str(error)]}
        return {"cached": cached}

    def _hit(self, state: KaelumState, settings: Settings, query: Query, embedding: Array) -> Hit | None:
        """A stored answer to the query, of a search with the same limits; what was verified serves any budget."""
        shape, tenant = requested_shape(current_request(state)), current_tenant(state)
        scopes = [self._scope(each, query, shape) for each in (settings.model_copy(update=USUAL), settings)]
        usual, own = (self.services.cache.lookup(query.text, embedding, scope=scope, tenant=tenant) for scope in scopes)
        return usual if usual is not None and usual.entry.answer["status"] == "verified" else own

    def after_cache(self, state: KaelumState) -> str:
        """Where to go: "hit" or "miss"."""
        return "hit" if state.get("cached") else "miss"

    def route(self, state: KaelumState, writer: StreamWriter) -> Json:
        """Spread the rollouts over the workers; a continued search keeps its route and gets more of them.

        The query's time goes on once the model is loaded, which only the first one waits for.
        """
        started_at = state.get("started_at", time.time()) + self.services.load()
        settings = self._settings(state)
        earlier = state.get("earlier")
        if earlier:
            # Its weights are those of now.
            further = {
                **further_route(current_route(state), read_tree(state), settings=settings),
                **self._weights(),
                **NO_FULL_RUN,
            }
            told_of(state, writer)(route_event(further))
            notices = list(state.get("notices") or [])
            if (model := self.services.model.name) != earlier["model"]:
                notices.append(f"the search was begun with {earlier['model']} and continued with {model}.")
            return {"route": further, "notices": notices, "started_at": started_at}
        features = state.get("features")
        assert features is not None, "the embed node runs first"
        forced = settings.worker or (None if settings.routing else UNROUTED)
        # One budget more than was chosen, all of it, for what that is worth to be seen.
        share = beyond_share(settings)
        beyond = share > 0 and is_beyond(EpisodeId(state.get("episode_id", "")))
        route = self.services.learned.router.route(
            features,
            deltas=harmless(
                "what ratings add to the route", lambda: self.services.learned.deltas(features), otherwise={}
            ),
            generator=self.services.generator(settings),
            effort=settings.effort,
            rollouts=settings.sims,
            depth=settings.depth,
            worker=None if forced is None else WorkerName(forced),
            beyond=beyond,
        )
        taken = {**dataclasses.asdict(route), **self._weights(), **self._full_run(state, settings)}
        taken |= {"full_run": taken["full_run"] or beyond, "beyond_share": share}
        told_of(state, writer)(route_event(taken))
        return {"route": taken, "started_at": started_at}

    def _weights(self) -> Json:
        """What the reward model counts for in the whole query, however long that takes: what was chosen by it must be
        known afterwards."""
        weight, learned = self.services.prm_weight(), self.services.reward_model is not None
        return {
            "prm_weight": weight,
            "scored_by": PRM if learned else SOURCE,
            "ordered": learned or self.services.measurements.skill().orders,
            "blind_share": BLIND_SHARE if weight else 1.0,
        }

    def _full_run(self, state: KaelumState, settings: Settings) -> Json:
        """Whether the search is to spend its budget whatever the stop head says, for that to learn; and how likely that
        was. A seeded search is left alone: it is to be repeatable."""
        if not settings.learning or settings.seed is not None:
            return {"full_run": False, "full_share": 0.0}
        head = self.services.learned.stop_head
        return {"full_run": head.full_run(EpisodeId(state.get("episode_id", ""))), "full_share": head.full_share}

    def verify(self, state: KaelumState, config: RunnableConfig, writer: StreamWriter) -> Json:
        """Weigh the answers and decide whether the leader may be given."""
        settings, tree = self._settings(state), read_tree(state)
        verdict = decide(
            harmless("the reward model", lambda: rescored(self.services, state, tree), otherwise=tree),
            worker=WorkerName(current_route(state)["worker"]),
            min_confidence=settings.min_confidence,
            prm_threshold=settings.prm_threshold,
            prose=[name for name, worker in self.services.workers.items() if worker.prose],
            answers=settings.answers,
            trust=prm_weight(state),
            ordered=current_route(state).get("ordered", True),
            calibrate=self.services.measurements.calibration,
        )
        told_of(state, writer)(
            {
                "stage": "verify",
                "status": verdict.status,
                "confidence": verdict.confidence,
                "reason": verdict.reasons[0] if verdict.reasons else "",
            }
        )
        return {
            "verdict": verdict.to_json(),
            "judged_at": time.time(),
            "halt": "cancelled" if cancel_token(self.services, config).cancelled else state.get("halt"),
        }

    def after_verify(self, state: KaelumState) -> str:
        """Where to go: "reflect" while a failed answer can still be bettered, then "review" where a person is to be
        asked, else "feedback", by way of "shape" where the answer must have a form.
        """
        settings, verdict = self._settings(state), state.get("verdict") or {}
        nothing_left = 0 in (tokens_left(state, settings.token_budget), seconds_left(state, settings.deadline))
        nothing_left |= len(read_tree(state).rollouts) >= current_route(state)["rollouts"]
        spent = nothing_left or state.get("halt") in EXHAUSTED
        may_reflect = len(state.get("reflections") or []) < settings.max_reflections
        if not verdict["passed"] and may_reflect and not spent:
            return "reflect"
        if self._review and needs_review(state):
            return "review"
        return "shape" if current_request(state).get("shape") else "feedback"

    def reflect(self, state: KaelumState, writer: StreamWriter) -> Json:
        """Name what failed, in the verifiers' own words, and let the search go on in the same tree."""
        verdict = Verdict.from_json(state.get("verdict") or {})
        reflection = " ".join(verdict.reasons) or "The answers so far disagree. Work more carefully, step by step."
        told_of(state, writer)({"stage": "reflect", "reason": reflection})
        return {"reflections": [*(state.get("reflections") or []), reflection], "halt": None}

    def feedback(self, state: KaelumState) -> Json:
        """Write the episode durably, and the answer to the cache if it earned that. A full disk loses no answer.

        A run that was forked from an earlier checkpoint, and came to something else, is an episode of its own.
        """
        if forked := self._kept_otherwise(state):
            self.services.shelf.move(state.get("episode_id", ""), forked["episode_id"])
            state = cast("KaelumState", {**state, **forked})
        settings, query, answer = self._settings(state), current_query(state), self._answer(state)
        earlier, request = state.get("earlier") or {}, current_request(state)
        record = {
            "answer": answer.to_json(),
            **{key: request.get(key) for key in ("history", "since", "tools", "shape")},
            "called": read_called(state) or None,
            "options": current_options(state),
            "settings": per_query(settings),
            "continued_from": earlier.get("episode_id"),
            "route": current_route(state),
            "tree": unpacked(state.get("tree")),
            "reflections": state.get("reflections"),
            "verdict": state.get("verdict"),
        }
        features = state.get("features")
        seen = None
        if settings.learning:
            seen = harmless("telling the learners", lambda: seen_bytes(self.services, state), otherwise=None)
        review = review_of(state, tenant=current_tenant(state))
        try:
            # Before the cache: what a reviewer corrected is taken out of it, and the correction put in.
            self.services.storage.append_episode(
                answer.id, query.text, record, tenant=current_tenant(state), seen=seen, rating=review
            )
            if settings.learning and not is_audit(answer.id):
                self._measure(state, answer.id)
            if settings.cache and surpassed(state, answer):
                self._evict_earlier(state)
            kept = (
                settings.cache
                and earned(answer)
                and heard(state)
                and whole(state)
                and may_be_kept(self.services, state)
            )
            if kept and features is not None:
                self.services.cache.add(
                    CacheEntry(
                        episode_id=answer.id,
                        scope=self._scope(kept_limits(state, settings, answer), query, requested_shape(request)),
                        query=query.text,
                        answer=answer.to_json(),
                        embedding=features[:384],
                        tenant=current_tenant(state),
                    )
                )
        except StorageError as error:
            return {**forked, "recorded": False, "notices": [*(state.get("notices") or []), str(error)]}
        finally:
            self.services.shelf.drop(answer.id)
        if seen is not None:
            self.services.tell_learner()
        return {**forked, "recorded": True}

    def _evict_earlier(self, state: KaelumState) -> None:
        """Take the answers of the searches that this one goes on from out of the cache."""
        named = (state.get("earlier") or {}).get("episode_id")
        while named:
            self.services.cache.evict(named)
            named = (self.services.storage.episode(named, tenant=current_tenant(state)) or {}).get("continued_from")

    def _kept_from_reflecting(self, state: KaelumState, settings: Settings, verdict: Verdict) -> str:
        """Why a search ended whose last wave was all refuted, by one anchor at least, and that reflected no more."""
        if verdict.status == "verified":
            return "verified"
        if tokens_left(state, settings.token_budget) == 0:
            return "tokens"
        return "deadline" if seconds_left(state, settings.deadline) == 0.0 else "budget"

    def _measure(self, state: KaelumState, episode_id: EpisodeId) -> None:
        """Take in what the search has measured of its operators, its confidences and its structures."""
        tree, earlier = read_tree(state), state.get("earlier") or {}
        self.services.measurements.learn(
            episode_id,
            tree,
            first=earlier.get("rollouts", 0),
            weighed=harmless("the reward model", lambda: rescored(self.services, state, tree), otherwise=tree),
            trust=prm_weight(state),
        )
        if not earlier:
            learn_structures(self.services, state, tree, episode_id)

    def _kept_otherwise(self, state: KaelumState) -> Json:
        """A new `episode_id` where another branch of the same run has kept its episode under this one; else nothing."""
        try:
            record = self.services.storage.episode(state.get("episode_id", ""), tenant=current_tenant(state))
        except StorageError:  # then nothing can be kept, as will be told
            return {}
        if record is None:
            return {}
        same = (record.get("tree"), record.get("verdict")) == (unpacked(state.get("tree")), state.get("verdict"))
        return {} if same else {"episode_id": uuid.uuid4().hex}

    def respond(self, state: KaelumState, writer: StreamWriter) -> Json:
        """Give the answer: as pieces of text on the stream, as a message, and whole with its story."""
        cached = state.get("cached")
        seconds = seconds_taken(state)
        if cached is not None:
            stored = Answer.from_json(cached)
            # Whether to call tools may have been put to the vote before the cache was looked into.
            cost = Cost(
                prompt_tokens=state.get("prompt_tokens", 0),
                completion_tokens=state.get("completion_tokens", 0),
                rollouts=len(call_candidates(state)),
                waves=read_called(state).get("waves", 0),
                seconds=seconds,
            )
            answer = dataclasses.replace(stored, cache="hit", stop_reason="cache", cost=cost)
        else:
            answer = self._answer(state)
        answer = dataclasses.replace(answer, state_version=state.get("state_version", ""))
        for line in answer.text.splitlines(keepends=True):
            writer({"id": answer.id, "stage": "text", "text": line})
        message = answer_message(answer, state.get("messages") or ())
        if cached is not None:
            # The same answer may be given in many turns, also in some that this graph is not shown.
            message.id = f"{answer.id}-{state.get('episode_id', '')[:8]}"
        return {
            "answer": answer.to_json(),
            "messages": [message],
        }

    def _settings(self, state: KaelumState) -> Settings:
        return self.services.settings_for(current_options(state))

    def _scope(self, settings: Settings, query: Query, shape: Shape | None) -> str:
        """Answers of another model, another forced worker or another conversation are never served.

        Nor is one answer where several were asked for, one in another form, one that an added verifier has not seen, or
        one of a search with other limits where the caller sets them.
        """
        turns = conversation_key(query.history)
        key: list[object] = [self.services.model_name, settings.worker, settings.routing, turns]
        limits = {name: getattr(settings, name) for name in LIMITS}
        if any(limit is not None for limit in limits.values()):
            key.append(limits)
        if settings.answers > 1:
            key.append(settings.answers)
        if query.since:
            key.append({"since": conversation_key(query.since)})
        if shape is not None:
            key.append({"shape": dataclasses.asdict(shape)})
        if (sources := self.services.sources_key()) is not None:
            key.append(sources)
        if checks := added():
            key.append({"verifiers": [check.name for check in checks]})
        return hashlib.sha256(json.dumps(key).encode()).hexdigest()

    def _answer(self, state: KaelumState) -> Answer:
        settings, verdict = self._settings(state), Verdict.from_json(state.get("verdict") or {})
        halt = state.get("halt") or "budget"
        if halt == "refuted":
            halt = self._kept_from_reflecting(state, settings, verdict)
        earlier = state.get("earlier") or {}
        return Answer(
            id=EpisodeId(state.get("episode_id", "")),
            query=current_query(state).text,
            text=verdict.text,
            answer=verdict.answer,
            status=verdict.status,
            confidence=verdict.confidence,
            worker=verdict.worker,
            route=current_route(state).get("probabilities", {}),
            cache="miss" if settings.cache and not earlier else "off",
            stop_reason=halt,  # pyright: ignore[reportArgumentType]
            model=self.services.model.name,
            evidence=verdict.evidence,
            alternatives=verdict.alternatives,
            choices=verdict.choices,
            cost=Cost(
                prompt_tokens=state.get("prompt_tokens", 0),
                completion_tokens=state.get("completion_tokens", 0),
                rollouts=len(read_tree(state).rollouts) - earlier.get("rollouts", 0) + len(call_candidates(state)),
                waves=state.get("waves", 0) - earlier.get("waves", 0) + read_called(state).get("waves", 0),
                seconds=seconds_taken(state),
            ),
            sources=cited(state, verdict.answer),
            calls=called(state),
            recorded=state.get("recorded", True),
            notices=(*(state.get("notices") or []), *verdict.notices),
            state_version=state.get("state_version", ""),
        )


def seconds_taken(state: KaelumState) -> float:
    """How long the query has been worked on; a reviewer's time is not counted, nor the loading of the model."""
    return time.time() - state.get("started_at", time.time()) + state.get("seconds_before", 0.0)


def beyond_share(settings: Settings) -> float:
    """How probable it is that a query gets more rollouts than the router chose: 0 where that isn't the router's choice,
    the search is to be repeatable, or the router learns nothing from it."""
    named = (settings.sims, settings.effort, settings.seed, settings.worker)
    return BEYOND_SHARE if settings.learning and settings.routing and named == (None,) * 4 else 0.0


def route_event(route: Json) -> Json:
    """The progress event of a route."""
    return {"stage": "route", **{key: route[key] for key in ("worker", "probabilities", "rollouts", "depth")}}


def conversation_key(turns: Sequence[Message]) -> list[object]:
    """What an answer depends on in the turns of a conversation; ids of calls are drawn anew each time, and aren't."""
    made: dict[str, str] = {}
    key: list[object] = []
    for turn in turns:
        made.update({call.id: call_key(call) for call in turn.calls})
        extra = [*map(call_key, turn.calls), *([made.get(turn.call_id, "")] if turn.role == "tool" else [])]
        key.append((turn.role, turn.content, *extra))
    return key


def heard(state: KaelumState) -> bool:
    """False where a verifier gave no answer in time: what it would have refuted is not to be served for good."""
    return not any(unanswered(vote) for rollout in read_tree(state).rollouts for vote in rollout.evidence)


def whole(state: KaelumState) -> bool:
    """False where the text that is given was cut at its greatest length."""
    given, rollouts = Verdict.from_json(state.get("verdict") or {}).rollout, read_tree(state).rollouts
    return given is None or rollouts[given].finish != "length"


def surpassed(state: KaelumState, answer: Answer) -> bool:
    """Whether the search goes on from one whose answer it no longer gives, or is less sure of."""
    before = (state.get("earlier") or {}).get("answer")
    if before is None:
        return False
    same = answers_equal(answer.answer or answer.text, before["answer"] or before["text"])
    return not same or answer.confidence < before["confidence"]


def kept_limits(state: KaelumState, settings: Settings, answer: Answer) -> Settings:
    """The settings whose limits an answer is kept under: the caller's own, but
    what was verified serves any effort, and what a search came to that went on, too."""
    usual = answer.status == "verified" or bool(state.get("earlier"))
    return settings.model_copy(update=USUAL) if usual else settings


def earned(answer: Answer) -> bool:
    """True when an answer may be served again: checked, or agreed on by a clear majority of a search that ran out.

    Calls of tools are never: what they are to find out may be something else next time.
    """
    if answer.calls:
        return False
    if answer.stop_reason in ("cancelled", "deadline", "tokens"):
        return False
    return answer.status == "verified" or (answer.status == "unverified" and answer.confidence >= CACHED_CONFIDENCE)
