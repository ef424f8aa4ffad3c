"""Answers that may be served again: found by meaning, let through only when the raw texts ask the same."""

from kaelum_graph.cache.guards import GuardVerdict, same_question
from kaelum_graph.cache.store import AnswerCache, Hit

__all__ = ["AnswerCache", "GuardVerdict", "Hit", "same_question"]
