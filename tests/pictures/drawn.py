"""What a picture holds, read back from its axes."""

import numpy as np


def lines(axes) -> dict[str, dict]:
    """The labelled lines: {label: {x: y}}."""
    return {line.get_label(): dict(zip(np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist(),
                                       strict=True))
            for line in axes.lines if not str(line.get_label()).startswith("_")}


def bars(axes, horizontal: bool = False) -> dict[str, list[float]]:
    """The lengths of the labelled groups of bars, by label, in the order of drawing."""
    return {group.get_label(): [bar.get_width() if horizontal else bar.get_height() for bar in group]
            for group in axes.containers if not str(group.get_label()).startswith("_")}


def rectangles(axes) -> list[tuple[float, float, float, float]]:
    """(x, y, width, height) of each bar, x and y of its middle in the direction across, rounded to 6 digits."""
    return [tuple(round(float(v), 6) for v in (bar.get_x(), bar.get_y(), bar.get_width(), bar.get_height()))
            for bar in axes.patches]


def texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def ticks(axes, which: str = "x") -> list[str]:
    return [label.get_text() for label in getattr(axes, f"get_{which}ticklabels")()]


def image(axes) -> np.ndarray:
    return np.asarray(axes.images[0].get_array())


def colour_of(axes) -> list[str]:
    """The face colours of the bars, as #rrggbb."""
    return ["#" + "".join(f"{round(255 * v):02X}" for v in bar.get_facecolor()[:3]) for bar in axes.patches]
