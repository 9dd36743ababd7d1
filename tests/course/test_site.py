"""`workshop.py site`: what is given to Sphinx; the pages themselves are built by the workflow."""

import re
import sys
from types import SimpleNamespace

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
        text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
        assert "](../" not in text and not re.search(r"(?<!\[)`kernels/gemv\.py`", text)
        assert notebook.metadata.kernelspec == {"name": "python3", "display_name": "Python 3", "language": "python"}
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


@pytest.mark.parametrize(("answer", "agreed", "status", "installed"), [
    ("y", False, 0, True), (" Yes\n", False, 0, True), ("n", False, 0, False), ("", False, 0, False),
    ("yet", False, 0, False), (None, False, 0, False), (None, True, 0, True), ("y", False, 1, False),
    (None, True, 1, False), (None, True, 2, False)])
def test_packages_are_installed_where_it_is_wanted(monkeypatch, answer, agreed, status, installed):
    """Asked for at a terminal, or agreed to before; None: there is none."""
    commands, done = [], SimpleNamespace(returncode=status)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: answer is not None))
    monkeypatch.setattr("builtins.input", lambda question: answer)
    monkeypatch.setattr(site.subprocess, "run", lambda command: commands.append(command) or done)
    assert site._install(["a==1", "b==2"], agreed) == installed
    assert commands == [[sys.executable, "-m", "pip", "install", "a==1", "b==2"]] * bool(installed or status)


@pytest.mark.parametrize("status", [0, 2])
def test_sphinx_builds_the_pages_from_the_sources(monkeypatch, capsys, tmp_path, status):
    asked = []

    def run(command):
        source = command[-2]
        asked.append((command, source.name, (source / "conf.py").exists()))
        return SimpleNamespace(returncode=status)

    monkeypatch.setattr(site, "PACKAGES", {"re": "re==1"})
    monkeypatch.setattr(site, "write_sources", lambda folder: (folder.mkdir(), (folder / "conf.py").touch()))
    monkeypatch.setattr(site.subprocess, "run", run)
    assert site.main(["--out", str(tmp_path / "pages")]) == status
    ((command, name, there),) = asked
    assert command[:6] == [sys.executable, "-m", "sphinx", "-b", "html", "-q"] and command[6] == "-d" and there
    assert command[7] == str(command[8].parent / "doctrees") and command[9] == tmp_path / "pages" and name == "source"
    assert not command[8].exists(), "the sources are gone afterwards"
    said = f"written to {tmp_path / 'pages'}: open {tmp_path / 'pages' / 'index.html'}\n"
    assert capsys.readouterr().out == (said if status == 0 else "")


def test_what_is_missing_is_named_in_its_version(monkeypatch):
    asked = []
    monkeypatch.setattr(site, "_install", lambda pins, agreed: asked.append((pins, agreed)))
    monkeypatch.setattr(site.importlib.util, "find_spec", lambda name: None if name in ("sphinx", "myst_nb") else 1)
    assert site.main(["--out", "x", "--install"]) == 1
    assert asked == [([site.PACKAGES["sphinx"], site.PACKAGES["myst_nb"]], True)]
    for module, pin in site.PACKAGES.items():
        assert re.fullmatch(rf"{module.replace('_', '-')}==\d+(\.\d+)+", pin)


def test_pages_are_listed_lessons_first(sources):
    lessons = [path.stem for path in sorted(SOLUTIONS.glob("*.ipynb"))]
    kernels = [path.stem for path in sorted((ROOT / "kernels").glob("*.py")) if path.stem != "__init__"]
    first, second = re.findall(r"```\{toctree\}\n(.*?)```", (sources / "index.md").read_text(), re.DOTALL)
    assert first.splitlines() == [":hidden:", ":caption: Lessons, solved", "", *lessons]
    assert second.splitlines() == [":hidden:", ":caption: More", "", "measured", *(f"sources/{name}" for name in kernels)]
    for name in kernels:
        source = (ROOT / "kernels" / f"{name}.py").read_text()
        assert (sources / "sources" / f"{name}.md").read_text() == f"# kernels/{name}.py\n\n`````python\n{source}`````\n"
    assert (sources / "index.md").read_text().startswith((ROOT / "README.md").read_text()[:40])


def test_each_page_s_notebook_can_be_shown(sources):
    """Of Python, with its pictures beside it, and its mentions of kernels as links."""
    linked = 0
    for path in sources.glob("*.ipynb"):
        notebook = nbformat.read(path, 4)
        assert notebook.metadata.kernelspec == {"name": "python3", "display_name": "Python 3", "language": "python"}
        text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
        assert all((sources / name).exists() for name in re.findall(r"\]\((pictures/[^)]+)\)", text))
        links = re.findall(r"\]\((sources/[^)]+)\)", text)
        assert all((sources / name).exists() for name in links)
        linked += len(links)
    assert linked > 5


def test_the_pages_configuration_is_python(sources):
    made = {}
    exec((sources / "conf.py").read_text(), made)
    assert made["nb_execution_mode"] == "off" and made["project"] == made["html_title"]
    assert set(made["extensions"]) <= set(site.PACKAGES) and made["html_theme"] in site.PACKAGES
    assert {"dollarmath", "amsmath"} == set(made["myst_enable_extensions"])
    for folder in made["html_static_path"]:
        assert all((sources / folder / name).read_text() == site.WIDE for name in made["html_css_files"])
    assert made["nb_merge_streams"] is True
