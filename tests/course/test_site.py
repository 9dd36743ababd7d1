"""`workshop.py site`: what is given to Sphinx; the pages themselves are built by the workflow."""

import re
import sys

import nbformat
import pytest

from checks.course import site
from checks.course.notebooks import SOLUTIONS
from checks.paths import ROOT


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "source"
    site.write_sources(folder)
    return folder


def test_every_lesson_and_kernel_is_a_page(sources):
    index = (sources / "index.md").read_text()
    for path in SOLUTIONS.glob("*.ipynb"):
        assert f"\n{path.stem}\n" in index
        notebook = nbformat.read(sources / path.name, 4)
        assert not {"way", "way-on"} & {cell.id for cell in notebook.cells}
        assert any(cell.get("outputs") for cell in notebook.cells)
    assert "```\n" not in (sources / "sources" / "gemv.md").read_text().replace("`````", "")
    assert "def gemv_fp16(" in (sources / "sources" / "gemv.md").read_text()


def test_pictures_come_along_and_links_stay_inside(sources):
    for page in ("index.md", "measured.md"):
        text = (sources / page).read_text()
        assert "](pictures/results_nvidia_h200_gemv_bandwidth.png)" in text
        assert "](results/" not in text and "](../" not in text and "](lessons/" not in text
    assert (sources / "pictures" / "results_nvidia_h200_gemv_bandwidth.png").read_bytes().startswith(b"\x89PNG")


def test_links_of_the_readme_lead_to_pages_or_are_text(sources):
    """To a lesson, the measurements, a heading or an address; any other file is no page."""
    index = (sources / "index.md").read_text()
    links = re.findall(r"(?<!!)(\[([^\]]+)\]\(([^)]+)\))", (ROOT / "README.md").read_text())
    pages = {"results/README.md": "measured.md", **{f"lessons/{path.name}": path.name for path in SOLUTIONS.glob("*.ipynb")}}
    assert pages.keys() <= {target for _, _, target in links} and all((sources / page).exists() for page in pages.values())
    for link, text, target in links:
        if target.startswith("#") or ":" in target:
            assert link in index
        elif target in pages:
            assert f"[{text}]({pages[target]})" in index
        else:
            assert link not in index and text in index


@pytest.mark.parametrize(("text", "want"), [
    ("[a](https://x.org/b.md)", "[a](https://x.org/b.md)"), ("[a](mailto:b@x.org)", "[a](mailto:b@x.org)"),
    ("[a](#here)", "[a](#here)"), ("[a](b.ipynb)", "[a](b.ipynb)"), ("[a](measured.md)", "[a](measured.md)"),
    ("[`a`](LICENSE), [b](c/d.md)", "`a`, b"), ("[a](../lessons/b.ipynb)", "a"),
    ("![a](https://x.org/b.png)", "![a](https://x.org/b.png)"),
    ("![a b](nvidia_h200/gemv_bandwidth.png)", "![a b](pictures/results_nvidia_h200_gemv_bandwidth.png)"),
])
def test_links_and_pictures(text, want, tmp_path):
    (tmp_path / "pictures").mkdir()
    assert site.with_pictures(text, ROOT / "results", tmp_path) == want


def test_a_kernel_that_is_mentioned_is_linked():
    text = "`kernels/gemv.py` and `kernels/nothing.py`, [`kernels/gemv.py`](x)"
    assert site.linked(text, ["gemv"]) == ("[`kernels/gemv.py`](sources/gemv.md) and `kernels/nothing.py`, "
                                           "[`kernels/gemv.py`](x)")


def test_what_is_missing_is_offered(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(site, "PACKAGES", {"no_such_module": "no-such==1"})
    monkeypatch.setattr(sys, "stdin", open("/dev/null"))  # noqa: PTH123, SIM115
    assert site.main(["--out", str(tmp_path)]) == 1
    assert "This needs no-such==1, which are not in .venv.\nAdd --install" in capsys.readouterr().out
    asked = []
    monkeypatch.setattr(site.subprocess, "run", lambda command: asked.append(command) or _Done())
    assert site.main(["--out", str(tmp_path), "--install"]) == 1
    assert asked == [[sys.executable, "-m", "pip", "install", "no-such==1"]]


class _Done:
    returncode = 1
