"""Learning curves drawn with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

TITLES = {"reward": "reward", "right": "right answers"}


def plot_curves(
    points: Sequence[int],
    drawn: Mapping[str, Mapping[str, Sequence[tuple[float, float, float]]]],
    ends: Mapping[str, tuple[float, float]],
    path: Path,
    *,
    title: str,
) -> None:
    """A panel for each measure: every router over queries learned from, and the best single worker and the oracle."""
    matplotlib.rcParams.update({"svg.hashsalt": "kaelum", "font.size": 9})
    figure, panels = plt.subplots(1, len(drawn), figsize=(5.2 * len(drawn), 3.8), squeeze=False)
    for panel, (kind, routers) in zip(panels[0], drawn.items(), strict=True):
        for name, row in routers.items():
            middle = [one[0] for one in row]
            own = name == "ours"
            style = "-" if own else ":" if name.endswith(", alone") else "--"
            (line,) = panel.plot(
                points, middle, style, label=name, linewidth=2.4 if own else 1.1, zorder=3 if own else 2
            )
            if own:
                low, high = [one[1] for one in row], [one[2] for one in row]
                panel.fill_between(points, low, high, color=line.get_color(), alpha=0.15)
        for end, name in zip(ends[kind], ("best single", "oracle"), strict=True):
            panel.axhline(end, color="grey", linewidth=0.8)
            panel.annotate(name, (points[-1], end), ha="right", va="bottom", fontsize=7, color="grey")
        panel.set_xlabel("queries learned from")
        panel.set_ylabel(TITLES[kind])
        panel.spines[["top", "right"]].set_visible(False)
    panels[0][-1].legend(fontsize=6, frameon=False, loc="lower right")
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
