"""What the grader's README says of the executor beside a GPU, held to the recorded run."""

import json

from checks.paths import ROOT


def test_the_readme_quotes_the_recorded_run():
    found = json.loads((ROOT / "results" / "executor" / "nvidia_h200.json").read_text())
    kernels, verdicts = found["kernels"].values(), found["verdicts"]
    launches, same = (sum(row[name] for row in kernels) for name in ("launches", "same_bits"))
    text = " ".join((ROOT / "checks" / "grader" / "README.md").read_text().split())
    assert f"of {launches} launches of {len(kernels)} kernels {same} left the same bits" in text
    assert f"differ by at most {max(row['apart'] for row in kernels):.1e} of the largest value" in text
    assert f"Of {sum(verdicts.values()) + len(found['failures'])} answers and mistakes one has another" in text
    assert len(found["failures"]) == 1 and "sums in FP32" in found["failures"][0] and verdicts["undefined"] == 4
