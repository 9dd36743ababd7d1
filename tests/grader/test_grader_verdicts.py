"""From a run to what the rubric asks of it: its kernels' compilation, flags, pictures, points."""

import types
from collections import Counter

import pytest
from grading import ADD

from checks.grader.grading import outcomes, verdicts
from checks.grader.sandbox.client import ChildExited
from checks.judge.compiler import Compiled


@pytest.mark.parametrize("ends", [None, "first", "main"])
def test_every_kernel_of_a_call_is_compiled(monkeypatch, ends):
    """Each once, and the one that moves most bytes last, whose report counts where all compile."""
    def reports(step):
        asked.append(step.kernel)
        if step.kernel == ends:
            raise ChildExited("it took too long")
        return {90: Compiled(error="no" if refused == step.kernel else None, spills=len(step.kernel))}

    asked, kernels = [], ["first", "main", "first", "other"]
    moved = {"first": 10, "main": 100, "other": 1}
    monkeypatch.setattr(verdicts, "answer_reports", lambda *_: "the answer's")
    launches = [outcomes.LaunchSummary(kernel, {}, [], {}, [], moved=Counter({("load", "x"): moved[kernel]}))
                for kernel in kernels]
    done = types.SimpleNamespace(launches=[types.SimpleNamespace(kernel=kernel) for kernel in kernels])
    outcome = types.SimpleNamespace(launches=launches)
    evidence = verdicts.SeenInChild(ADD, "", 0, [outcome], None, done, types.SimpleNamespace(reports=reports))
    for refused in (None, "first", "other"):
        asked.clear()
        if ends:
            with pytest.raises(TimeoutError, match="did not finish: it took too long"):
                evidence.compiled()
        else:
            mine, answer = evidence.compiled()
            assert asked == ["other", "first", "main"] and answer == "the answer's"
            assert mine[90].spills == len(refused or "main")
    evidence.compiler = None
    assert evidence.compiled() is None
