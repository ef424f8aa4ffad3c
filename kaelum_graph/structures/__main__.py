"""Prints the structures of a data folder: `python -m kaelum_graph.structures [FOLDER]`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from kaelum_graph.config import load_settings
from kaelum_graph.structures.store import STRUCTURES_FILE, Entry, StructureStore
from kaelum_graph.structures.trial import evidence_against, evidence_for


def shown(entry: Entry) -> str:
    """One structure as text: where it stands, what its trial has shown, and its lines."""
    structure, trial = entry.structure, entry.trial
    head = f"{structure.worker} cluster {structure.cluster} ({structure.model}): {entry.state}"
    if entry.reason:
        head += f", {entry.reason}"
    if trial.queries:
        head += (
            f"; {trial.queries} queries of trial, {trial.pairs} of them told something: mean gain "
            f"{100 * trial.mean_gain:+.1f} points, tokens ×{1 / trial.token_factor:.2f}, e-value for "
            f"{evidence_for(trial):.2f}, against {evidence_against(trial):.2f}"
        )
    return "\n".join([head, *(f"  {number}. {line}" for number, line in enumerate(structure.lines, start=1))])


def main(arguments: Sequence[str]) -> int:
    """Print them; 2 when the folder holds none."""
    folder = Path(arguments[0]) if arguments else load_settings(flags={}, environ=os.environ).settings.data_dir
    if not (folder / STRUCTURES_FILE).exists():
        print(f"{folder}: no structures are kept here.", file=sys.stderr)
        return 2
    store = StructureStore(folder / STRUCTURES_FILE)
    for entry in store.entries():
        print(shown(entry))
    store.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
