"""What Jupyter's server is told: a lesson that was only opened stays as it was, to the byte, and pages have a style."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from jupyter_server.serverapp import ServerApp
from traitlets.config import Config

from checks.course.jupyter import __file__ as package
from checks.course.notebooks import LESSONS, lessons

FULL = {"codemirror_mode": {"name": "ipython", "version": 3}, "file_extension": ".py", "mimetype": "text/x-python",
        "name": "python", "nbconvert_exporter": "python", "pygments_lexer": "ipython3", "version": "3.12.4"}


@pytest.fixture
def config():
    path, config = package.replace("__init__", "server_config"), Config()
    with open(path) as file:  # noqa: PTH123
        exec(compile(file.read(), path, "exec"), {"get_config": lambda: config, "__file__": path})
    return config


@pytest.fixture
def hook(config):
    return config.FileContentsManager.pre_save_hook


def saved(hook, path, root, language_info):
    """The lesson as Jupyter saves it, given what it knows of the kernel."""
    notebook = nbformat.read(LESSONS / path.rpartition("/")[2], 4)
    notebook.metadata.language_info = language_info
    hook(model={"type": "notebook", "content": notebook}, path=path, contents_manager=SimpleNamespace(root_dir=str(root)))
    return nbformat.writes(notebook) + "\n"


@pytest.mark.parametrize("lesson", [pytest.param(path, id=path.stem) for path in lessons()])
def test_a_lesson_that_was_only_opened_is_the_same_file(hook, lesson):
    assert saved(hook, f"lessons/{lesson.name}", LESSONS.parent, dict(FULL)) == lesson.read_text()
    assert saved(hook, lesson.name, LESSONS, dict(FULL)) == lesson.read_text()


def test_other_notebooks_and_languages_are_saved_as_they_are(hook, tmp_path):
    name = lessons()[0].name
    assert '"version": "3.12.4"' in saved(hook, name, tmp_path, dict(FULL))
    assert '"name": "julia"' in saved(hook, name, LESSONS, {"name": "julia"})
    hook(model={"type": "file", "content": "text"}, path="a.txt", contents_manager=SimpleNamespace(root_dir="/"))
    hook(model={"type": "notebook", "content": None}, path="a.ipynb", contents_manager=SimpleNamespace(root_dir="/"))


def test_the_server_takes_each_option_and_finds_the_style_sheet(config):
    assert set(config.ServerApp) <= set(ServerApp.class_traits(config=True))
    (folder,) = config.ServerApp.tornado_settings["static_custom_path"]
    assert (Path(folder) / "custom.css").is_file()


STYLE = (Path(package).parent / "custom.css").read_text()
THEMES = {"Light": ("theme-light-extension", ["#f5f5f5", "#ffffff"]),
          "Dark": ("theme-dark-extension", ["#212121", "#111111"])}
"""JupyterLab's themes: their folder, and what is behind code in a cell and in the active cell."""

SYNTAX = ("keyword", "number", "def", "variable", "variable-2", "property", "operator", "comment", "string", "string-2",
          "meta", "builtin", "bracket", "punctuation")
"""What JupyterLab tells apart in Python."""


def test_each_rule_goes_before_jupyterlab_s_own():
    """JupyterLab loads its rules after this sheet: of two that are equally specific, its own would hold."""
    rules = re.findall(r"([^{}]+)\{", re.sub(r"/\*.*?\*/", "", STYLE, flags=re.DOTALL))
    assert rules and all(rule.strip().startswith("body") for rule in rules)


def luminance(colour):
    """Of #rrggbb, as WCAG 2.2 defines it."""
    parts = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(*colours):
    darker, lighter = sorted(map(luminance, colours))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("theme", THEMES)
def test_code_is_legible_in_both_themes(theme):
    folder, backgrounds = THEMES[theme]
    shipped = Path(sys.prefix, "share/jupyter/lab/themes/@jupyterlab", folder, "index.css").read_text()
    ours = re.search(rf'"JupyterLab {theme}"\] \{{(.*?)\}}', STYLE, re.DOTALL).group(1)
    colours = dict(re.findall(r"--jp-mirror-editor-([\w-]+)-color:\s*([^;]+);", shipped + ours))
    for kind in SYNTAX:
        colour = re.sub(r"var\(.*, *(#\w+)\)", r"\1", colours[kind]).replace("green", "#008000")
        if len(colour) == 4:
            colour = "#" + "".join(2 * digit for digit in colour[1:])
        assert min(contrast(colour, behind) for behind in backgrounds) >= 4.5, (kind, colour)


@pytest.mark.parametrize(("theme", "error", "page"), [("Light", "#ffdddd", "#ffffff"), ("Dark", "#511f1b", "#111111")])
def test_errors_and_prompts_are_legible_in_both_themes(theme, error, page):
    """`error` is JupyterLab's --jp-rendermime-error-background on the page."""
    ours = re.search(rf'"JupyterLab {theme}"\] \{{(.*?)\}}', STYLE, re.DOTALL).group(1)
    printed = re.findall(r"--workshop-\w+: (#\w{6});", ours)
    assert len(printed) == 6 and min(contrast(colour, behind) for colour in printed for behind in (error, page)) >= 4.5
    prompts = re.findall(r"--jp-cell-(?:in|out)prompt-font-color: (#\w{6});", ours)
    assert len(prompts) == 2 and min(contrast(colour, page) for colour in prompts) >= 4.5
