"""Groups of equal answers, the units that votes and evidence are weighed over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kaelum_graph.answers import clean
from kaelum_graph.equality import answers_equal


@dataclass(frozen=True, slots=True)
class Cluster:
    """Answers that say the same. `members` are indices into the sequence that was clustered, ascending.

    `representative` is the members' most frequent cleaned surface form; of equally frequent ones the shortest, then the
    first in code point order, so that it doesn't depend on the order of the answers.
    """

    representative: str
    members: tuple[int, ...]


def cluster(answers: Sequence[str | None], *, equal: Callable[[str, str], bool] = answers_equal) -> list[Cluster]:
    """Clusters of `answers`, the largest first, then by representative; None and blank answers are in none.

    Equality of answers is not wholly transitive ("5 cm" and "5 kg" both equal "5"). So surface forms are taken the most
    frequent first, and each joins the first cluster whose own first form it equals: no chain of near-matches can pull
    two different answers together, and who is with whom depends on the answers alone, not on their order.
    """
    forms = [clean(answer) if answer is not None else "" for answer in answers]
    counts = Counter(form for form in forms if form)
    leaders: list[str] = []
    home: dict[str, int] = {}
    for form in sorted(counts, key=lambda form: (-counts[form], len(form), form)):
        place = next((index for index, leader in enumerate(leaders) if equal(leader, form)), None)
        if place is None:
            place = len(leaders)
            leaders.append(form)
        home[form] = place
    members: list[list[int]] = [[] for _ in leaders]
    for index, form in enumerate(forms):
        if form:
            members[home[form]].append(index)
    clusters = [Cluster(leader, tuple(group)) for leader, group in zip(leaders, members, strict=True)]
    return sorted(clusters, key=lambda group: (-len(group.members), group.representative))
