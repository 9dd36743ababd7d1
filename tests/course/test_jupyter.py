"""What Jupyter's server is told: a lesson that was only opened stays as it was, to the byte, and pages have a style."""

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
