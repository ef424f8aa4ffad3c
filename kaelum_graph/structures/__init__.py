"""Reasoning structures: a short plan for one kind of task, found by the model itself and used only where it helps.

After SELF-DISCOVER (Zhou et al. 2024): select reasoning modules, adapt them to the kind of task, implement them as a
plan; once per worker and task cluster. A plan is never taken on faith: it goes on trial first (`trial.py`).
"""

from __future__ import annotations

from kaelum_graph.structures.base import Arm, Choice, RolloutOutcome, Structure
from kaelum_graph.structures.book import DueDiscovery, StructureBook

__all__ = ["Arm", "Choice", "DueDiscovery", "RolloutOutcome", "Structure", "StructureBook"]
