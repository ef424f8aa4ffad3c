"""Compares the two channels of one candidate: what its program printed and what its text claims."""

from __future__ import annotations

from kaelum_graph.answers import final_answer, last_line, last_number, without_code
from kaelum_graph.equality import answers_equal
from kaelum_graph.evidence import Evidence, Tier
from kaelum_graph.observations import said_after, shown
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Candidate, Query
from kaelum_graph.verifiers import register
from kaelum_graph.verifiers.base import Verifier
from kaelum_graph.verifiers.votes import shortened, unscored, vote


@register
class AgreementVerifier(Verifier):
    """Passes when the text names the same answer as the program's output, fails when it names another."""

    name = "agreement"
    tier = Tier.CROSS_CHANNEL

    def check(self, query: Query, candidate: Candidate, sandbox: Sandbox) -> Evidence:
        if not candidate.program or not (candidate.observation or "").strip():
            return unscored(self, "no program with an output")
        if said_after(candidate.text, shown(candidate.observation, None)) is not None:
            return unscored(self, "the text was written in sight of the program's output")
        claimed = final_answer(without_code(candidate.text))
        printed = final_answer(candidate.observation or "") or last_line(candidate.observation or "")
        if claimed is None or printed is None:
            return unscored(self, "the text names no answer beside the program's")
        others = ((candidate.observation or "").strip(), last_number(candidate.observation or "") or "")
        if any(answers_equal(claimed, said) for said in (printed, *others)):
            return vote(self, "pass", f"the program and the text both say {shortened(printed)}")
        return vote(self, "fail", f"the program printed {shortened(printed)}, the text says {shortened(claimed)}")
