"""The judge stands alone: none of its modules leads back to itself, and none needs another room of `checks`."""

import ast
from graphlib import TopologicalSorter

from checks.paths import ROOT


def imported(path) -> set[str]:
    """The modules of `checks` that a file imports, at its top or in a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.startswith("checks.")}


JUDGE = {f"checks.judge.{path.stem}": imported(path) for path in (ROOT / "checks/judge").glob("*.py")}


def test_no_module_of_the_judge_leads_back_to_itself():
    order = list(TopologicalSorter({name: needs & set(JUDGE) for name, needs in JUDGE.items()}).static_order())
    assert order.index("checks.judge.interpreter_client") < order.index("checks.judge.tracing")
    assert order.index("checks.judge.verdict") < order.index("checks.judge.interpreter_server")


def test_the_judge_imports_no_other_room():
    assert {name for needs in JUDGE.values() for name in needs if not name.startswith("checks.judge")} <= {
        "checks.paths", "checks.paths.ROOT"}
