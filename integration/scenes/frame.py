"""What the pictures of the scenes have in common: their colours of text and lines, and the frame of a diagram."""

from matplotlib.axes import Axes

TEXT = "#333333"


def frame(axes: Axes, title: str) -> None:
    """A diagram with light lines, and without a box around it; `title` says what goes up."""
    axes.set_ylabel(title, color=TEXT)
    axes.grid(color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=TEXT, labelsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#999999")
