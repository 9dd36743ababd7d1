"""What holds of every picture: nothing is drawn where it is not seen, a number's unit is named, a colour means one thing."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure
from pictured import entries, entry_look, figure_shown, in_data, look, named

UNITS = ("µs", "us", "GB/s", "TFLOPS", "TOPS", "MB", "kB", "KiB", "GB", "bytes", "dB", "%", "nats", "tokens", "times",
         "steps", "density", "error", "perplexity", "magnitude", "reads", "instructions", "panels", "sectors", "calls",
         "registers", "bits", "operations", "|y|", "|x[0", "|sum")
PLACES = ("M", "N", "K", "n", "k", "m", "row", "column", "element", "lane", "channel", "batch", "window", "alpha", "token",
          "products", "access", "stride", "line", "rows", "size", "cache", "amax", "channels", "BLOCK_N")
"""What is counted along an axis that has no unit."""


def panels(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.axison and not getattr(axes, "_colorbar", None)]


def outside(figure: Figure) -> list[str]:
    """What lies beyond the ends of an axis, and is cut off."""
    found = []
    for number, axes in enumerate(panels(figure)):
        for what, x, y in drawn(axes):
            for which, values in (("x", x), ("y", y)):
                values = np.asarray(values, dtype=float)
                if what == "bar" and getattr(axes, f"get_{which}scale")() == "log":
                    values = values[values > 0]
                values, ends = values[np.isfinite(values)], sorted(getattr(axes, f"get_{which}lim")())
                room = 1e-9 + 1e-6 * (ends[1] - ends[0])
                found += [f"panel {number}, {what}: {which} = {value:g} is not in {ends[0]:g} to {ends[1]:g}"
                          for value in (values.min(initial=ends[0]), values.max(initial=ends[1]))
                          if not ends[0] - room <= value <= ends[1] + room]
    return found


def drawn(axes: Axes):
    """(what, x, y) of all that has a place in the units of the axes; no x, or y, where that is none."""
    def placed(artist, x, y):
        along = in_data(artist, axes)
        return (x if along[0] else []), (y if along[1] else [])

    for line in axes.lines:
        yield f"line {line.get_label()}", *placed(line, *line.get_data(orig=False))
    for patch in axes.patches:
        if hasattr(patch, "get_width"):
            x, y = patch.get_x(), patch.get_y()
            yield "bar", *placed(patch, [x, x + patch.get_width()], [y, y + patch.get_height()])
    for group in axes.collections:
        if isinstance(group, PathCollection):
            points = np.asarray(group.get_offsets(), dtype=float)
        elif isinstance(group, LineCollection):
            points = np.concatenate([np.asarray(segment) for segment in group.get_segments()])
        else:
            points = np.concatenate([path.vertices for path in group.get_paths()])
        yield f"points {group.get_label()}", points[:, 0], points[:, 1]
    for text in axes.texts:
        if text.get_text() and not hasattr(text, "xy"):
            x, y = text.get_position()
            yield f"text {text.get_text()}", *placed(text, [x], [y])
        elif text.get_text() and text.xycoords == "data":
            yield f"text {text.get_text()}", *([place] if not isinstance(place, str) else [] for place in text.xy)


def unnamed(figure: Figure) -> list[str]:
    """The axes along which there are numbers of which nothing says what they are: neither the title nor a label, its own or
    that of a panel which shares it or stands beside it."""
    found = []
    for number, axes in enumerate(panels(figure)):
        for which in "xy":
            axis = getattr(axes, f"{which}axis")
            if any(character.isalpha() for label in tick_labels(axis) for character in label.replace("mathdefault", "")):
                continue
            siblings = [*getattr(axes, f"get_shared_{which}_axes")().get_siblings(axes), *beside(figure, axes, which)]
            said = [*(getattr(each, f"{which}axis").get_label_text() for each in siblings), axes.get_title()]
            if tick_labels(axis) and not {word.strip("(),:") for text in said for word in text.split()} & {*UNITS, *PLACES}:
                found.append(f"panel {number}: nothing says what {which} counts: {said}, {tick_labels(axis)}")
    return found


def tick_labels(axis) -> list[str]:
    places = list(axis.get_majorticklocs())
    return [label for label in axis.get_major_formatter().format_ticks(places) if label] if places else []


def beside(figure: Figure, axes: Axes, which: str) -> list[Axes]:
    """The first panel of the same row, whose label of y holds for all."""
    if which == "x" or axes.get_subplotspec() is None:
        return []
    return [other for other in panels(figure) if other.get_subplotspec() is not None
            and other.get_subplotspec().rowspan == axes.get_subplotspec().rowspan]


def legends(figure: Figure):
    yield from figure.legends
    yield from (axes.get_legend() for axes in figure.axes if axes.get_legend() is not None)


def misleading(figure: Figure) -> list[str]:
    """Entries of a legend that are there twice, or whose colour is not in the picture; two lines that look alike."""
    found, shown = [], figure_shown(figure)
    colours = str([{name: part for name, part in panel.items() if name != "legend"} for panel in shown["panels"]])
    for legend in legends(figure):
        said = [entry[0] for entry in entries(legend)]
        found += [f"the legend has {text!r} twice" for text in dict.fromkeys(said) if said.count(text) > 1]
        found += [f"nothing is {entry_look(handle)[0]}, as the legend has {text!r}" for text, handle in zip(
            said, legend.legend_handles, strict=True) if entry_look(handle) and entry_look(handle)[0] not in colours]
    for number, axes in enumerate(panels(figure)):
        looks = [(line.get_color(), look(line), str(line.get_markerfacecolor())) for line in axes.lines if named(line)]
        found += [f"panel {number}: two lines look like {each}" for each in set(looks) if looks.count(each) > 1]
    return found


def faults(figure: Figure) -> list[str]:
    return [*outside(figure), *unnamed(figure), *misleading(figure)]
