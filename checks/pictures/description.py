"""A picture in words, for those who do not see it: titles, axes, what is drawn, and where each line begins and ends."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

MOST = 8
"""Lines, or labels, of one part that are named; the others are counted."""


def describe(figure: Figure) -> str:
    """The text alternative of `figure`: a sentence for each of its parts."""
    whole = [figure.get_suptitle()] if figure.get_suptitle() else []
    return " ".join(["Picture.", *(f"{_line(text)}." for text in whole), *filter(None, map(_part, figure.axes))])


def _part(axes: Axes) -> str:
    titles = [axes.get_title(loc) for loc in ("left", "center", "right")]
    said = [_line(title) for title in titles if title]
    if axes.get_ylabel() or axes.get_xlabel():
        said.append(f"{_line(axes.get_ylabel()) or 'values'} against {_line(axes.get_xlabel()) or 'position'}")
    drawn = [_curve(label, *artist.get_data()) for artist, label in _named(axes.lines)]
    drawn += [label for bars in axes.containers if (label := str(bars.get_label())) and not label.startswith("_")]
    drawn += [label for artist, label in _named(axes.collections)]
    said += [", ".join(drawn[:MOST]) + (f" and {len(drawn) - MOST} more" if len(drawn) > MOST else "")] if drawn else []
    texts = [_line(text.get_text()) for text in axes.texts if text.get_text().strip()]
    if texts:
        said.append("labels: " + ", ".join(texts[:MOST]) + (f" and {len(texts) - MOST} more" if len(texts) > MOST else ""))
    return "; ".join(said) + "." if said else ""


def _named(artists):
    return [(artist, str(artist.get_label())) for artist in artists if not str(artist.get_label()).startswith("_")]


def _curve(label: str, x, y) -> str:
    try:
        return f"{_line(label)} from {_number(y[0])} at {_number(x[0])} to {_number(y[-1])} at {_number(x[-1])}"
    except (TypeError, ValueError, IndexError):
        return _line(label)


def _number(value) -> str:
    return f"{float(value):,.0f}" if 1000 <= abs(float(value)) < 1e9 else f"{float(value):.3g}"


def _line(text: str) -> str:
    return " ".join(text.replace("$", "").split())
