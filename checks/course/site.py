"""`workshop.py site`: the solved course as static pages, to read without running it. Sphinx builds them, with MyST-NB."""

import argparse
import importlib.util
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat

from checks.course.notebooks import SOLUTIONS, read
from checks.paths import ROOT

PACKAGES = {"sphinx": "sphinx==9.0.4", "myst_nb": "myst-nb==1.4.0", "sphinx_book_theme": "sphinx-book-theme==1.4.0",
            "sphinx-mathjax-offline": "sphinx-mathjax-offline==0.0.2"}
"""What only this command needs: module, and pin."""

CONFIGURATION = '''project = title = "Triton kernels, from FP16 to INT8"
html_title = title
author = "the workshop's authors"
extensions = ["myst_nb", "sphinx-mathjax-offline"]
html_theme = "sphinx_book_theme"
html_theme_options = {"use_download_button": True, "show_navbar_depth": 1, "show_toc_level": 2, "path_to_docs": ""}
html_static_path = ["pictures"]
html_css_files = ["wide.css"]
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header", "myst.xref_missing", "misc.highlighting_failure", "mystnb.unknown_mime_type"]
'''
WIDE = "pre { overflow-x: auto; }\n.output img { background: white; }\n"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="workshop.py site", description="Build the solved course as static pages.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the pages; open its index.html")
    parser.add_argument("--install", action="store_true", help="install what this needs into .venv without asking")
    wanted = parser.parse_args(argv)
    missing = [pin for module, pin in PACKAGES.items() if importlib.util.find_spec(module) is None]
    if missing and not _install(missing, wanted.install):
        return 1
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "source"
        write_sources(source)
        done = subprocess.run([sys.executable, "-m", "sphinx", "-b", "html", "-q", "-d", f"{place}/doctrees",
                               source, wanted.out])
    if done.returncode == 0:
        print(f"written to {wanted.out}: open {wanted.out / 'index.html'}")
    return done.returncode


def _install(pins: list[str], agreed: bool) -> bool:
    command = [sys.executable, "-m", "pip", "install", *pins]
    if not agreed:
        print(f"This needs {', '.join(pins)}, which are not in .venv.")
        if not sys.stdin.isatty():
            print("Add --install to have them installed.")
            return False
        if input("Install them there? [y/N] ").strip().lower() not in ("y", "yes"):
            return False
    return subprocess.run(command).returncode == 0


def write_sources(folder: Path) -> None:
    """The pages' sources: the README as the first page, the solved lessons, the kernels, the measurements."""
    (folder / "sources").mkdir(parents=True)
    (folder / "pictures").mkdir()
    (folder / "conf.py").write_text(CONFIGURATION)
    (folder / "pictures" / "wide.css").write_text(WIDE)
    names = [path.stem for path in sorted(SOLUTIONS.glob("*.ipynb"))]
    kernels = [path.stem for path in sorted((ROOT / "kernels").glob("*.py")) if path.stem != "__init__"]
    for name in names:
        notebook = read(SOLUTIONS / f"{name}.ipynb")
        notebook.cells = [cell for cell in notebook.cells if cell.id not in ("way", "way-on")]  # the pages have their own
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = linked(with_pictures(cell.source, SOLUTIONS, folder), kernels)
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, folder / f"{name}.ipynb")
    for name in kernels:
        source = (ROOT / "kernels" / f"{name}.py").read_text()
        (folder / "sources" / f"{name}.md").write_text(f"# kernels/{name}.py\n\n`````python\n{source}`````\n")
    results = ROOT / "results"
    (folder / "measured.md").write_text(with_pictures((results / "README.md").read_text(), results, folder))
    readme = (ROOT / "README.md").read_text()
    readme = re.sub(r"\]\(lessons/(\w+\.ipynb)\)", r"](\1)", readme).replace("](results/README.md)", "](measured.md)")
    contents = "\n".join(("", "```{toctree}", ":hidden:", ":caption: Lessons, solved", "", *names, "```",
                          "", "```{toctree}", ":hidden:", ":caption: More", "", "measured",
                          *(f"sources/{name}" for name in kernels), "```", ""))
    (folder / "index.md").write_text(linked(with_pictures(readme, ROOT, folder), kernels) + contents)


def with_pictures(text: str, beside: Path, folder: Path) -> str:
    """`text` with the pictures that it shows, by a path from `beside`, copied to `folder`; links to other files as text."""
    def copy(found: re.Match[str]) -> str:
        path = (beside / found[2]).resolve()
        name = "_".join(path.relative_to(ROOT).parts)
        (folder / "pictures" / name).write_bytes(path.read_bytes())
        return f"![{found[1]}](pictures/{name})"

    text = re.sub(r"!\[([^\]]*)\]\(([^):]+\.png)\)", copy, text)
    return re.sub(r"(?<!!)\[([^\]]+)\]\((?!\w+:|#|\w+\.ipynb|measured\.md|pictures/)[^)]*\)", r"\1", text)


def linked(text: str, kernels: list[str]) -> str:
    """`text` with each mention of a file of `kernels/` as a link to its source."""
    return re.sub(r"(?<!\[)`kernels/(\w+)\.py`", lambda found: f"[{found[0]}](sources/{found[1]}.md)"
                  if found[1] in kernels else found[0], text)
