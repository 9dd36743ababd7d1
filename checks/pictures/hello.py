"""Pictures of lesson 00: which program touches what, and which lanes a mask turns off."""

import math
from collections import Counter

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from checks.bench.figures import COLOURS
from checks.judge.launches import Access
from checks.judge.tracing import trace
from checks.pictures.common import NOTHING, ready_to_draw, show_figure

_MAP = {"cmap": ListedColormap([NOTHING, *COLOURS]), "vmin": -1, "vmax": len(COLOURS) - 1, "interpolation": "nearest"}


def show_programs(function, **inputs):
    """One line for each program, one column for each element: which program touches which elements of a vector.

    Runs `function(**inputs)` once, in Triton's interpreter; a number in a field says how often, where more than once.
    """
    if not ready_to_draw(function):
        return None
    launch = trace(function, **inputs)[-1]
    programs = sorted({access.program for access in launch.accesses})
    length = 1 + max(int(access.offsets[access.live].max()) for access in launch.accesses)
    touches: dict[tuple[str, str], np.ndarray] = {}
    for access in launch.accesses:
        count = touches.setdefault((access.kind, access.tensor), np.zeros((len(programs), length), dtype=int))
        np.add.at(count[programs.index(access.program)], access.offsets[access.live], 1)
    panels = _merged((f"{kind} {_name(tensor)}", count) for (kind, tensor), count in touches.items())
    figure, axes = plt.subplots(len(panels), 1, figsize=(7, len(panels) * (0.7 + 0.3 * len(programs))), squeeze=False,
                                sharex=True, layout="constrained")
    for ax, (title, count) in zip(axes[:, 0], panels, strict=True):
        colours = np.array([_colour(program) for program in programs])[:, None]
        ax.imshow(np.where(count > 0, colours, -1), aspect="auto", **_MAP)
        _fields(ax, count.shape)
        for row, column in np.argwhere(count > 1) if length <= 64 else []:
            ax.text(column, row, count[row, column], ha="center", va="center", fontsize=7,
                    bbox={"facecolor": "white", "alpha": 0.6, "edgecolor": "none", "pad": 1})
        ax.set_yticks(range(len(programs)), [_label(program, programs) for program in programs], fontsize=8)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_title(title, fontsize=10)
    axes[-1, 0].set_xlabel("element")
    return show_figure(figure)


def show_lanes(function, **inputs):
    """The lanes of each program, with the number of the element that each points to: coloured where the mask is true.

    Runs `function(**inputs)` once, in Triton's interpreter.
    """
    if not ready_to_draw(function):
        return None
    launch = trace(function, **inputs)[-1]
    programs = sorted({access.program for access in launch.accesses})
    loads: dict[tuple[str, str, int], dict[tuple, np.ndarray]] = {}
    for access in launch.accesses:  # the same load of every program starts at the same place in its block
        key = access.kind, access.tensor, int(access.offsets.flat[0]) % access.offsets.size
        loads.setdefault(key, {})[access.program] = np.stack([access.offsets.ravel(), access.live.ravel()])
    most = max(lanes.shape[1] for rows in loads.values() for lanes in rows.values())
    blank = np.stack([np.zeros(most, dtype=int), np.full(most, -1)])  # -1: no lane at all
    panels = _merged((title, np.stack([
        np.pad(rows[p], ((0, 0), (0, most - rows[p].shape[1])), constant_values=-1) if p in rows else blank
        for p in programs])) for title, rows in zip(_numbered(loads), loads.values(), strict=True))
    figure, axes = plt.subplots(len(panels), 1, figsize=(7, len(panels) * (0.7 + 0.3 * len(programs))), squeeze=False,
                                sharex=True, layout="constrained")
    for ax, (title, lanes) in zip(axes[:, 0], panels, strict=True):
        offsets, on = lanes[:, 0], lanes[:, 1]
        ax.imshow(np.where(on > 0, np.array([_colour(p) for p in programs])[:, None], -1), aspect="auto", **_MAP)
        _fields(ax, on.shape)
        for row, column in np.argwhere(on >= 0) if most <= 32 else []:
            off = on[row, column] == 0
            if off:
                ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, hatch="////", edgecolor="#BBBBBB", lw=0))
            ax.text(column, row, offsets[row, column], ha="center", va="center", fontsize=8,
                    bbox={"facecolor": "white", "alpha": 0.85 if off else 0.6, "edgecolor": "none", "pad": 1})
        ax.set_yticks(range(len(programs)), [_label(program, programs) for program in programs], fontsize=8)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_title(f"{title} (hatched: off)", fontsize=10)
    axes[-1, 0].set_xlabel("lane")
    return show_figure(figure)


def show_memory(function, **inputs):
    """Each tensor as it lies in memory, cut into lines as long as its largest stride: which program touches what.

    Runs `function(**inputs)` once, in Triton's interpreter. A vector is drawn as one column.
    """
    if not ready_to_draw(function):
        return None
    launch = trace(function, **inputs)[-1]
    programs = sorted({access.program for access in launch.accesses})
    accesses: dict[tuple[str, str], list[Access]] = {}
    for access in launch.accesses:
        accesses.setdefault((access.kind, access.tensor), []).append(access)
    shapes = {key: _lines(launch.arguments[key[1]]) for key in accesses}
    widest = max(width for _, width in shapes.values())
    figure, axes = plt.subplots(1, len(accesses), figsize=(7.5, 3.4), squeeze=False, layout="constrained",
                                width_ratios=[max(width, widest / 3) for _, width in shapes.values()])
    for ax, (key, mine) in zip(axes[0], accesses.items(), strict=True):
        (lines, width), tensor = shapes[key], launch.arguments[key[1]]
        owner = np.full(lines * width, -1)
        for access in mine:
            owner[access.offsets[access.live]] = _colour(access.program)
        ax.imshow(owner.reshape(lines, width), aspect="auto", **_MAP)
        for access in mine if len(programs) <= 12 else []:
            row, column = (int(v.mean()) for v in divmod(access.offsets[access.live], width))
            ax.text(column, row, _label(access.program, programs, short=width < 0.7 * widest), ha="center", va="center",
                    fontsize=7, bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1.5})
        ax.set_title(f"{key[0]} {_name(key[1])} {tuple(tensor.shape)},\nstrides {tuple(tensor.stride())}", fontsize=9)
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        if width > 1:
            ax.set(xlabel="element of the line", ylabel=f"line of {width} elements in memory")
        else:
            ax.set(xticks=[], ylabel="element")
    return show_figure(figure)


def _lines(tensor) -> tuple[int, int]:
    """How many lines, and how long."""
    width = max(tensor.stride()) if tensor.ndim > 1 else 1
    extent = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return math.ceil(extent / width), width


def _numbered(accesses) -> list[str]:
    """A title for each (kind, tensor, …); where a tensor has several of one kind they are counted: load 2 of x."""
    total = Counter(key[:2] for key in accesses)
    seen: Counter[tuple] = Counter()
    titles = []
    for kind, tensor, _ in accesses:
        seen[kind, tensor] += 1
        many = total[kind, tensor] > 1
        titles.append(f"{kind} {seen[kind, tensor]} of {_name(tensor)}" if many else f"{kind} {_name(tensor)}")
    return titles


def _merged(panels) -> list[tuple[str, np.ndarray]]:
    """Panels that look the same are one, under both titles."""
    kept: list[tuple[str, np.ndarray]] = []
    for title, picture in panels:
        same = next((i for i, (_, other) in enumerate(kept) if np.array_equal(picture, other)), None)
        if same is None:
            kept.append((title, picture))
        else:
            kept[same] = f"{kept[same][0]} · {title}", picture
    return kept


def _fields(ax, shape) -> None:
    """White lines between the fields, where there are few enough."""
    if shape[1] <= 64:
        ax.set_xticks(np.arange(shape[1] + 1) - 0.5, minor=True)
        ax.set_yticks(np.arange(shape[0] + 1) - 0.5, minor=True)
        ax.grid(which="minor", color="white", linewidth=1)
        ax.tick_params(which="minor", length=0)


def _name(tensor: str) -> str:
    return tensor.removesuffix("_ptr")


def _colour(program) -> int:
    return (3 * program[0] + program[1]) % len(COLOURS)  # neighbours along either axis differ


def _label(program, programs, short: bool = False) -> str:
    one_axis = all(p[1] == 0 for p in programs)
    number = str(program[0]) if one_axis else f"({program[0]}, {program[1]})"
    return number if short or not one_axis else f"program {number}"
