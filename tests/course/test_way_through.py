"""What every lesson has: links to its neighbours, `checks` first, text for any theme; the wrong kernel's sentence."""

import re
import shutil
import subprocess
import sys

import pytest
from nbconvert.filters import markdown2html

from checks.course.notebooks import LESSONS, exercises_in, lessons, read

PATHS = lessons()


@pytest.mark.parametrize("index", [pytest.param(index, id=path.stem) for index, path in enumerate(PATHS)])
def test_a_lesson_links_its_neighbours_and_the_readme(index):
    beside = [PATHS[i] for i in (index - 1, index + 1) if 0 <= i < len(PATHS)]
    cells = read(PATHS[index]).cells
    for cell in (cells[1], cells[-1]):
        targets = re.findall(r"\]\((.*?)\)", cell.source)
        assert sorted(targets) == sorted([path.name for path in beside] + ["../README.md"])
        assert all((LESSONS / target).exists() for target in targets)
        for path in beside:
            assert read(path).cells[0].source.splitlines()[0].removeprefix("# ") in cell.source


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in PATHS])
def test_the_first_line_of_code_finds_the_workshop(path):
    setup = next(cell for cell in read(path).cells if cell.cell_type == "code")
    assert setup.source.startswith("from checks import ")


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in PATHS])
def test_takeaways_are_quotations_that_any_theme_shows(path):
    """A coloured box has a contrast of 2.7 in JupyterLab's dark theme."""
    text = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    assert "> **Takeaway.**" in text and "alert" not in text and "<div" not in text


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in PATHS])
def test_code_in_the_text_is_shown_as_code(path):
    """A line that begins with `*` in the middle of a code span makes a list, and a quotation mark of code stays."""
    for cell in read(path).cells:
        if cell.cell_type == "markdown":
            assert "`" not in re.sub(r"<pre>.*?</pre>", "", markdown2html(cell.source), flags=re.DOTALL), cell.id


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in PATHS])
def test_parts_that_the_text_names_are_in_the_lesson(path):
    text = " ".join(" ".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown").split())
    there = set(re.findall(r"## Part (\d+)\.", text))
    named = set(re.findall(r"(?<!lesson \d\d, )(?<!lesson \d\db, )\b[Pp]arts? (\d+)", text))
    assert named <= there, named - there


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in PATHS])
def test_exercises_are_numbered_in_their_order(path):
    text = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    headings = re.findall(r"^### Exercises? ([^:]+)", text, re.MULTILINE)
    numbers = [int(number) for heading in headings for number in re.findall(r"\d+", heading)]
    expected = list(range(1, 1 + len(exercises_in(read(path)))))
    assert numbers == expected, f"{path.name}: number the headings `### Exercise`, and mend the texts that name them"


def test_cells_that_take_long_say_so():
    (path,) = LESSONS.glob("10_*.ipynb")
    cells = read(path).cells
    for name in ("sample", "cost", "layers", "frontier", "card"):
        (before,) = [cells[i - 1] for i, cell in enumerate(cells) if cell.id == name]
        assert "takes long; a bar shows" in before.source


# the file beside the lessons that `import checks` finds


@pytest.fixture
def copy(tmp_path):
    """(lessons/ of a made-up workshop, run(code)): as a kernel that was started there, in a Python without packages."""
    folder = tmp_path / "lessons"
    folder.mkdir()
    shutil.copy(LESSONS / "checks.py", folder)
    for package in ("checks", "kernels"):
        (tmp_path / package).mkdir()
    (tmp_path / "checks" / "__init__.py").write_text("import kernels\ncheck = kernels.name\n")
    (tmp_path / "checks" / "more.py").write_text("deep = 1\n")
    (tmp_path / "kernels" / "__init__.py").write_text("name = 'the package'\n")

    def run(code):
        return subprocess.run([sys._base_executable, "-S", "-c", code], cwd=folder, capture_output=True, text=True)
    return folder, run


def test_the_wrong_kernel_gets_a_sentence(copy):
    _, run = copy
    done = run("from checks import check")
    last = done.stderr[done.stderr.index("WrongKernel: "):]
    assert "which lacks torch, triton, numpy, matplotlib, rich, nbformat." in last
    assert "Choose the kernel of" in last and "Run `python3 workshop.py doctor` once" in last
    shown = run("try:\n    import checks\nexcept ImportError as error:\n    print(error._render_traceback_()[0])").stdout
    assert shown.startswith("✗ This notebook runs in")


def test_a_kernel_started_in_lessons_finds_the_packages(copy):
    folder, run = copy
    for name in ("torch", "triton", "numpy", "matplotlib", "rich", "nbformat"):
        (folder / f"{name}.py").touch()
    done = run("from checks import check\nfrom checks.more import deep\nimport checks\nprint(check, deep, checks.__file__)")
    assert done.stdout.split() == ["the", "package", "1", str(folder.parent / "checks" / "__init__.py")], done.stderr
