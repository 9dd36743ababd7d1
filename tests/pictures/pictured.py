"""What a reader sees of a picture, as plain values: titles, scales, limits, ticks, and all that is drawn, with colours."""

import dataclasses
from collections import Counter

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import Collection, LineCollection, PathCollection
from matplotlib.colors import LogNorm, to_hex
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter

from checks.bench.figures import COLOURS

NAMES = dict(zip((colour.lower() for colour in COLOURS), ("blue", "orange", "green", "pink", "sky", "red", "yellow"),
                 strict=True)) | {"#000000": "black", "#ffffff": "white", "#555555": "grey", "#f2f2f2": "pale"}
MOST = 24
"""Numbers, or texts, of one thing that are written out; of more there is a summary."""
FEW_VALUES = 16  # of an image: fields in colours, not a map


def plain(value):
    """`value` as JSON has it. Floats have four digits."""
    if isinstance(value, Figure):
        return figure_shown(value)
    if isinstance(value, Axes):
        return axes_shown(value)
    if isinstance(value, torch.Tensor | np.ndarray):
        return array(value)
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(key): plain(inner) for key, inner in value.items()}
    if dataclasses.is_dataclass(value):
        return {field.name: plain(found) for field in dataclasses.fields(value)
                if (found := getattr(value, field.name)) != field.default}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if value is None or isinstance(value, str | bool):
        return value
    return number(value)


def number(value):
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, int):
        return value
    if not np.isfinite(value):
        return str(value)
    short = float(f"{value:.4g}")
    return int(short) if short.is_integer() and abs(short) < 1e6 else short


def array(values):
    """A few numbers; or the shape and a summary."""
    tensor = torch.as_tensor(values)
    return some(tensor.tolist()) if tensor.ndim == 1 and len(tensor) <= MOST else {
        "shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch."), **summary(tensor.numpy())}


def some(values):
    values = list(values)
    return [number(value) for value in values] if len(values) <= MOST else summary(np.asarray(values))


def summary(values) -> dict:
    """Of many numbers. `centre` is where they are heaviest: 0 at the first, 1 at the last."""
    flat = np.asarray(values, dtype=float).ravel()
    finite = flat[np.isfinite(flat)]
    places = np.linspace(0, 1, flat.size)[np.isfinite(flat)]
    weight = np.abs(finite).sum()
    found = {"n": flat.size, "first": flat[0], "middle": flat[flat.size // 2], "last": flat[-1], "least": finite.min(),
             "most": finite.max(), "mean": finite.mean(), "centre": (places * np.abs(finite)).sum() / (weight or 1.0)}
    if len(finite) < flat.size:
        found["not finite"] = flat.size - len(finite)
    return {name: number(value) for name, value in found.items()}


def colour(value) -> str:
    hexed = to_hex(value)
    return NAMES.get(hexed, hexed)


def figure_shown(figure: Figure) -> dict:
    grid = next((spec.get_gridspec() for axes in figure.axes if (spec := axes.get_subplotspec())), None)
    ratios = plain([grid.get_width_ratios(), grid.get_height_ratios()]) if grid else []
    return without_empty({"title": figure.get_suptitle(), "inches": array(figure.get_size_inches()),
                          "widths, heights": ratios if any(len(set(each)) > 1 for each in ratios) else None,
                          "panels": [axes_shown(axes) for axes in figure.axes],
                          "legend": [entry for legend in figure.legends for entry in entries(legend)]})


def without_empty(found: dict) -> dict:
    return {name: value for name, value in found.items() if value not in ("", [], {}, None)}


def axes_shown(axes: Axes) -> dict:
    titles = {name: axes.get_title(loc) for name, loc in (("title", "center"), ("left title", "left"),
                                                          ("right title", "right"))}
    if getattr(axes, "_colorbar", None):
        bar = axes._colorbar
        return without_empty(titles | {"colour bar": axes.get_ylabel() or axes.get_xlabel(), "extend": bar.extend,
                                       "from, to": [number(bar.vmin), number(bar.vmax)]})
    return without_empty(titles | {
        "hidden": not axes.axison or None, "x": axis_shown(axes, "x"), "y": axis_shown(axes, "y"),
        "lines": [line_shown(line) for line in axes.lines],
        "bars": bars_shown(axes), "patches": [patch_shown(patch, axes) for patch in loose_patches(axes)],
        "points": [collection_shown(collection) for collection in axes.collections],
        "images": [image_shown(image) for image in axes.images], "texts": texts_shown(axes),
        "legend": entries(axes.get_legend()), "beside": [ticks_shown(child.yaxis, []) for child in axes.child_axes]})


def axis_shown(axes: Axes, which: str) -> dict:
    axis, limits = getattr(axes, f"{which}axis"), [number(v) for v in getattr(axes, f"get_{which}lim")()]
    scale, turned = axis.get_scale(), axis.get_major_ticks(1)[0].label1.get_rotation()
    return without_empty({"label": axis.get_label_text(), "scale": "" if scale == "linear" else scale, "from, to": limits,
                          "ticks": ticks_shown(axis, limits), "lines between": fields(axis), "rotated": turned or None})


def ticks_shown(axis, limits) -> list:
    """Those that were chosen, and their labels; where matplotlib chooses them, what two of them would be called."""
    locator, formatter = axis.get_major_locator(), axis.get_major_formatter()
    if isinstance(locator, FixedLocator) or type(locator).__name__ == "StrCategoryLocator":
        places = list(locator())
        labels = formatter.format_ticks(places) if places else []
        return [[number(place), label] for place, label in zip(places, labels, strict=True)]
    if isinstance(formatter, FuncFormatter | FixedFormatter) and all(isinstance(limit, int | float) for limit in limits):
        tens = 10.0 ** int(np.log10(max(abs(limit) for limit in limits)))
        return [["as", formatter(value, 0)] for value in (tens, tens / 8)]
    return []


def fields(axis) -> list | None:
    """The first and the last of the lines that are drawn between fields, and their number."""
    between = axis.get_minor_locator()
    places = list(between()) if isinstance(between, FixedLocator) else []
    return [number(places[0]), number(places[-1]), len(places)] if places else None


def in_data(artist, axes: Axes) -> tuple[bool, bool]:
    """Whether x, and y, of an artist are in the units of the axes."""
    return artist.get_transform().contains_branch_seperately(axes.transData)


def line_shown(line: Line2D) -> dict:
    x, y = (np.asarray(part, dtype=float) for part in line.get_data(orig=False))
    along = in_data(line, line.axes)
    found = named(line) | {"colour": colour(line.get_color()), "look": look(line), "alpha": line.get_alpha(),
                           "fill": "none" if line.get_marker() not in ("None", "") and line.get_fillstyle() != "none"
                           and line.get_markerfacecolor() in ("none", "None") else None}
    if not all(along):  # from one end of the axes to the other
        return without_empty(found | ({"at x": number(x[0])} if along[0] else {"at y": number(y[0])}))
    return without_empty(found) | {"x": some(x), "y": some(y)}


def look(line: Line2D) -> str:
    """Marker and line as matplotlib writes them: "o--"."""
    marker, style = line.get_marker(), line.get_linestyle()
    drawstyle = line.get_drawstyle()
    return (("" if marker in ("None", None) else str(marker)) + ("" if style == "None" else str(style))
            + ("" if drawstyle == "default" else f" {drawstyle}"))


def named(artist) -> dict:
    label = str(artist.get_label())
    return {"label": label} if label and not label.startswith("_") else {}


def loose_patches(axes: Axes) -> list[Patch]:
    in_bars = {id(bar) for group in axes.containers if isinstance(group, BarContainer) for bar in group}
    return [patch for patch in axes.patches if id(patch) not in in_bars]


def filling(patch: Patch) -> dict:
    return without_empty({"colour": colour(patch.get_facecolor()) if patch.get_fill() else "",
                          "edge": "" if patch.get_fill() else colour(patch.get_edgecolor()), "hatch": patch.get_hatch(),
                          "alpha": patch.get_alpha()})


def box(patch) -> list:
    return [number(v) for v in (patch.get_x(), patch.get_y(), patch.get_width(), patch.get_height())]


def bars_shown(axes: Axes) -> list[dict]:
    """Groups of bars, each bar as x, y, width, height; neighbours that look the same are one group."""
    found: list[dict] = []
    for group in (group for group in axes.containers if isinstance(group, BarContainer)):
        label = named(group)
        if len(group) > MOST:
            found.append(label | filling(group[0]) | {
                "from, to": [number(group[0].get_x()), number(group[-1].get_x() + group[-1].get_width())],
                "heights": summary([bar.get_height() for bar in group])})
            continue
        for bar in group:
            look = label | filling(bar)
            if not found or {k: v for k, v in found[-1].items() if k != "x, y, width, height"} != look:
                found.append(look | {"x, y, width, height": []})
            found[-1]["x, y, width, height"].append(box(bar))
    return found


def patch_shown(patch: Patch, axes: Axes) -> dict:
    if not hasattr(patch, "get_width"):
        return named(patch) | filling(patch)
    x, y, width, height = box(patch)
    place = {"y, height": [y, height]} if not in_data(patch, axes)[0] else {"x, y, width, height": [x, y, width, height]}
    return named(patch) | filling(patch) | place


def collection_shown(collection: Collection) -> dict:
    if isinstance(collection, PathCollection):
        colours = [colour(value) for value in collection.get_facecolors()]
        drawn = {"places": [[number(v) for v in place] for place in collection.get_offsets()]}
    elif isinstance(collection, LineCollection):
        colours = [colour(value) for value in collection.get_colors()]
        segments = collection.get_segments()
        ends = [[number(v) for v in segment.ravel()] for segment in segments]
        drawn = {"from, to": ends} if len(ends) <= MOST else {"x": summary([s[0, 0] for s in segments]),
                                                               "y": summary([s[-1, 1] for s in segments])}
    else:
        colours = [colour(value) for value in collection.get_facecolors()]
        vertices = np.concatenate([path.vertices for path in collection.get_paths()])
        drawn = {"x": summary(vertices[:, 0]), "y": summary(vertices[:, 1])}
    return named(collection) | {"colour": colours[0] if len(set(colours)) == 1 else colours} | drawn


def image_shown(image) -> dict:
    values = np.asarray(image.get_array())
    if values.ndim == 3:  # colours themselves
        numbers = (255 * values[:, :, :3]).round().astype(int) @ [1 << 16, 1 << 8, 1]
        kinds, which = np.unique(numbers, return_inverse=True)
        names = np.array([colour(f"#{kind:06x}") for kind in kinds])[which].reshape(numbers.shape)
        return {"shape": list(names.shape), "fields": {name: field(names == name) for name in dict.fromkeys(names.ravel())}}
    kinds = np.unique(values[np.isfinite(values)])
    if len(kinds) <= FEW_VALUES and (kinds == kinds.round()).all():
        if values.size <= 2 * MOST:
            return {"rows": [[colour(image.cmap(image.norm(v))) for v in row] for row in values]}
        return {"shape": list(values.shape), "fields": {
            f"{int(v)}, {colour(image.cmap(image.norm(v)))}": field(values == v) for v in kinds}}
    return {"shape": list(values.shape), "colours": image.cmap.name, "from, to": [number(v) for v in image.get_clim()],
            "scale": "log" if isinstance(image.norm, LogNorm) else "linear", "rows": summary(values),
            "columns": summary(values.T)}


def field(mask) -> dict:
    """How many of an image's elements, and where: their middle, and the first and last row and column."""
    rows, columns = np.nonzero(mask)
    return {"n": len(rows), "middle": [number(rows.mean()), number(columns.mean())],
            "rows": [int(rows.min()), int(rows.max())], "columns": [int(columns.min()), int(columns.max())]}


def texts_shown(axes: Axes) -> list:
    texts = [text for text in axes.texts if text.get_text()]
    if len(texts) <= 2 * MOST:
        return [text_shown(text, axes) for text in texts]
    places = np.array([text.get_position() for text in texts], dtype=float)
    return [" ".join(text.get_text() for text in texts), {"x": summary(places[:, 0]), "y": summary(places[:, 1])}]


def text_shown(text, axes: Axes) -> list:
    """What it says, where; then how it lies there, what it is measured in unless in the axes' units, its colour."""
    place, more = text.get_position(), []
    if hasattr(text, "xy"):
        place, words = text.xy, (text.xycoords,) if isinstance(text.xycoords, str) else text.xycoords
        more += [", ".join(words)] if set(words) != {"data"} else []
        more += ["{:g}, {:g} points off".format(*text.xyann)] if text.anncoords == "offset points" else []
    elif in_data(text, axes) != (True, True):
        more.append("axes fraction")
    more += [colour(text.get_color())] if colour(text.get_color()) != "black" else []
    more += [f"rotated {text.get_rotation():g}"] if text.get_rotation() else []
    return [text.get_text(), *(part if isinstance(part, str) else number(part) for part in place),
            f"{text.get_horizontalalignment()} {text.get_verticalalignment()}", *more]


def entries(legend) -> list:
    """A legend's entries: what it says, and its colour and look."""
    if legend is None:
        return []
    return [[text.get_text(), *entry_look(handle)] for text, handle in zip(
        legend.get_texts(), legend.legend_handles, strict=True)]


def entry_look(handle) -> list[str]:
    if isinstance(handle, Line2D):
        return [colour(handle.get_color()), look(handle)]
    if isinstance(handle, Patch):
        return list(map(str, filling(handle).values()))
    return list(Counter(colour(value) for value in (*handle.get_facecolors(), *handle.get_edgecolors())))
