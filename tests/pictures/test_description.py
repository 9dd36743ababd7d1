"""A picture's text alternative."""

import base64

import matplotlib.pyplot as plt
import pytest

from checks.pictures.common import page
from checks.pictures.description import describe


@pytest.fixture
def figure():
    figure, (left, right) = plt.subplots(1, 2)
    left.plot([1, 2, 4], [10, 20, 40], label="ours $x$")
    left.plot([0, 1], [0, 0], label="_not named")
    left.set(xlabel="rows\nof x", ylabel="GB/s", title="Speed")
    right.bar([0, 1], [3, 4], label="waves")
    right.annotate("best", (0, 3))
    figure.suptitle("Measured")
    yield figure
    plt.close(figure)


def test_a_picture_in_words(figure):
    assert describe(figure) == ("Picture. Measured. Speed; GB/s against rows of x; ours x from 10 at 1 to 40 at 4. "
                                "waves; labels: best.")


def test_many_lines_are_counted():
    figure, axes = plt.subplots()
    for index in range(10):
        axes.plot([0], [index], label=f"l{index}")
    assert describe(figure).endswith("l7 from 7 at 0 to 7 at 0 and 2 more.")
    plt.close(figure)


@pytest.mark.parametrize(("x", "y", "said"), [
    ([1, 2], [3, 4], "us from 3 at 1 to 4 at 2"), ([], [], "us"), (["a", "b"], [3, 4], "us"), ([1, 2], [None, 4], "us"),
])
def test_a_line_without_points_or_numbers_is_named_alone(x, y, said):
    figure, axes = plt.subplots()
    axes.plot([0], [0], label="before")
    (line,) = axes.plot([0], [0], label="us")
    line.get_data = lambda: (x, y)
    assert describe(figure) == f"Picture. before from 0 at 0 to 0 at 0, {said}."
    plt.close(figure)


def test_large_numbers_are_written_out():
    figure, axes = plt.subplots()
    axes.plot([0.125, 16384], [1019.6, 3.0], label="us")
    assert "us from 1,020 at 0.125 to 3 at 16,384" in describe(figure)
    plt.close(figure)


def test_a_page_shows_the_picture_and_says_what_it_shows(figure):
    figure.suptitle('a "b" <c>')
    bundle = page(figure)
    image = bundle["text/html"].partition("base64,")[2].partition('"')[0]
    assert base64.b64decode(image).startswith(b"\x89PNG")
    assert 'alt="Picture. a &quot;b&quot; &lt;c&gt;. Speed' in bundle["text/html"]
    assert bundle["text/plain"] == describe(figure)


def titled(axes):
    axes.set_title("one", loc="left")
    axes.set_title("two\nlines")
    axes.set_title("three", loc="right")


def texts(number):
    def draw(axes):
        axes.text(0, 0, "  ")
        for index in range(number):
            axes.text(0, 0, f"t{index}")
    return draw


def series(axes):
    axes.bar([0], [1])
    axes.bar([0], [1], label="bars")
    axes.scatter([0], [1], label="dots")
    axes.scatter([0], [1])
    axes.plot([1, 2], [999.4, 2e9], label="line")


PARTS = {
    "nothing": (lambda axes: None, ""),
    "titles": (titled, " one; two lines; three."),
    "label of y": (lambda axes: axes.set_ylabel("GB/s"), " GB/s against position."),
    "label of x": (lambda axes: axes.set_xlabel("M\nand N"), " values against M and N."),
    "an empty text": (texts(0), ""),
    "eight texts": (texts(8), " labels: t0, t1, t2, t3, t4, t5, t6, t7."),
    "ten texts": (texts(10), " labels: t0, t1, t2, t3, t4, t5, t6, t7 and 2 more."),
    "series": (series, " line from 999 at 1 to 2e+09 at 2, bars, dots."),
    "numbers": (lambda axes: axes.plot([1, 4], [-2000.4, 1000], label="$x^2$"), " x^2 from -2,000 at 1 to 1,000 at 4."),
    "eight lines": (lambda axes: [axes.plot([0], [0], label=f"l{n}") for n in range(8)],
                    " " + ", ".join(f"l{n} from 0 at 0 to 0 at 0" for n in range(8)) + "."),
}


@pytest.mark.parametrize("part", PARTS)
def test_what_is_said_of_a_part(part):
    figure, (empty, axes) = plt.subplots(1, 2)
    draw, said = PARTS[part]
    draw(axes)
    assert describe(figure) == f"Picture.{said}", "an empty panel has no sentence"
    figure.suptitle("all\nof it")
    assert describe(figure) == f"Picture. all of it.{said}"
    plt.close(figure)
