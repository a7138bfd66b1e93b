"""The picture of a replayed recording: hit share against the places for models of all nodes."""

from pathlib import Path

from matplotlib.figure import Figure

from ext_proc.cli.replay.fleet import RECORDED, Answered, points

# On a ground of its own, so that the picture reads the same on a light page and on a dark one.
_GROUND, _TEXT, _GRID = "#ffffff", "#333333", "#dddddd"
_CURVE = "#2e86ab"
_FLEETS = ("#8a7f72", "#1f4e79", "#c8553d", "#3f8f5b", "#7b4fa3", "#d39b2a", "#4a4a4a", "#b23a7a")


def draw(result: Answered, file: Path) -> None:
    """Draws it as a PNG that is readable 800 pixels wide. Raises OSError."""
    figure = Figure(figsize=(7.2, 4.2), dpi=200, layout="constrained", facecolor=_GROUND)
    axes = figure.subplots()
    line = points(result.curve)
    axes.plot(
        [slots for slots, _ in line], [100 * part for _, part in line],
        color=_CURVE, linewidth=2, label="one cache of so many places (LRU)",
    )  # fmt: skip
    for number, row in enumerate(result.rows):
        figures = row.figures
        if figures.slots is None or figures.hit_share is None:
            continue
        axes.plot(
            [figures.slots], [100 * figures.hit_share], "x" if row.name == RECORDED else "o",
            color=_FLEETS[number % len(_FLEETS)], markersize=9 if row.name == RECORDED else 6, label=row.name,
            zorder=4 if row.name == RECORDED else 3,
        )  # fmt: skip
    axes.set_xlabel("places for models, all nodes together", color=_TEXT)
    axes.set_ylabel("hit share, %", color=_TEXT)
    axes.set_xlim(left=0)
    axes.set_ylim(0, 100)
    axes.grid(color=_GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_TEXT, labelsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(loc="lower right", fontsize=8.5, framealpha=0.92, edgecolor="none", labelcolor=_TEXT)
    figure.savefig(file, format="png", facecolor=_GROUND)
