"""Jupyter's server reads this file (`workshop.py` names it in .venv/etc/jupyter): it knows `get_config`, and no torch."""

import warnings
from pathlib import Path

HERE = Path(__file__).resolve().parent
LESSONS = HERE.parents[2] / "lessons"


def keep_metadata(model, path, contents_manager, **_):
    """Save a lesson with the metadata that it was handed out with, so that git sees what the student wrote and no more.

    Jupyter would add the version of Python, and change each lesson that is only opened.
    """
    content = model.get("content")
    if model.get("type") != "notebook" or not content:
        return
    if (Path(contents_manager.root_dir) / path.strip("/")).resolve().parent != LESSONS:
        return
    if content["metadata"].get("language_info", {}).get("name") == "python":
        content["metadata"]["language_info"] = {"name": "python"}


# Jupyter reads its configuration for each class of files and warns of the second time.
warnings.filterwarnings("ignore", "Overriding existing pre_save_hook")
c = get_config()  # type: ignore[name-defined]  # noqa: F821
c.FileContentsManager.pre_save_hook = keep_metadata
c.ServerApp.tornado_settings = {"static_custom_path": [str(HERE)]}  # custom.css; the option of that name takes no value
