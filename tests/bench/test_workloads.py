"""What is measured: the plans of units, the shapes of files, and which baselines take part."""

import pytest

from checks.bench import baselines, perf, results
from checks.bench.baselines import OPTIONAL, fits, missing
from checks.bench.workloads import BREAK_EVEN_M, LLAMA, BadShapes, find, key, measure, plan, unit
from kernels.runtime import INTERPRETED


def test_every_unit_names_functions_and_shapes_that_fit(monkeypatch, tmp_path):
    monkeypatch.setattr("checks.bench.workloads.INTERPRETED", False)
    monkeypatch.setattr("checks.bench.workloads.missing", lambda name: "")
    own = tmp_path / "mine.json"
    own.write_text("[[1, 4096, 4096], [300, 512, 1000]]")
    for shapes in ("workshop", *LLAMA, str(own)):
        groups = plan(shapes)
        keys = [key(u) for u in units_of(groups)]
        assert len(set(keys)) == len(keys) and list(groups)[0] == "right"
        for u in units_of(groups):
            assert all(callable(find(name)) for name in u["functions"]), u
            assert len(u["shape"]) == 3 - (u["test"] in ("gemv", "attention") or u["test"].startswith("quant"))
    assert [300, 512, 1000] in [unit["shape"] for unit in groups["matmul_int8"]]
    assert [1, 4096, 4096] in [unit["shape"] for unit in groups["decode"]]
    none = plan("workshop", baselines=[])
    assert not {name for units in none.values() for unit in units for name in unit["functions"]} & set(OPTIONAL)


def units_of(groups, group=None):
    return [u for name, units in groups.items() for u in units if group in (None, name)]


@pytest.mark.skipif(not INTERPRETED, reason="on a GPU its own libraries take part")
def test_what_is_recorded_is_what_is_planned(monkeypatch):
    """Whoever changes the plan measures again, with `--only` if little was changed. Optional libraries may be missing."""
    monkeypatch.setattr("checks.bench.workloads.INTERPRETED", False)
    monkeypatch.setattr("checks.bench.workloads.missing", lambda name: "")

    def sizes(test, shape):  # (M, K, N): x is one row of a GEMV, and without w N is 1
        return tuple(shape) if len(shape) == 3 else (1, *shape) if test == "gemv" else (*shape, 1)

    planned = {(u["name"], name, u["mode"], *sizes(u["test"], u["shape"])) for u in units_of(plan()) if u["mode"] != "check"
               for name in u["functions"]}
    recorded = {(r["test"], r["function"], r["mode"], r["M"], r["K"], r["N"]) for r in results.recorded()["rows"]}
    assert recorded <= planned and {function for _, function, *_ in planned - recorded} <= {*OPTIONAL}


@pytest.mark.skipif(not INTERPRETED, reason="there is a GPU")
def test_every_function_is_checked_without_a_gpu_too(monkeypatch):
    def names():
        return {name for unit in plan()["right"] for name in unit["functions"]}

    here = names()
    monkeypatch.setattr("checks.bench.workloads.INTERPRETED", False)
    assert here == names()


@pytest.fixture
def gpu_plan(monkeypatch):
    monkeypatch.setattr("checks.bench.workloads.INTERPRETED", False)
    monkeypatch.setattr("checks.bench.workloads.missing", lambda name: "")
    return plan


def test_a_file_of_shapes_is_found_from_where_the_user_is(gpu_plan, tmp_path, monkeypatch):
    (tmp_path / "mine.json").write_text("[[300, 512, 1000]]")
    monkeypatch.chdir(tmp_path)
    assert [u["shape"] for u in gpu_plan("mine.json")["gemm"]] == [[300, 512, 1000]]


def test_decode_s_kernel_takes_part_as_far_as_it_goes(gpu_plan):
    found = {u["shape"][0]: u["functions"] for u in units_of(gpu_plan(), "decode") if u["name"] == "few or many"}
    assert list(found) == BREAK_EVEN_M
    assert [M for M in found if "decode_w8a8" in found[M]] == [M for M in BREAK_EVEN_M if M <= 128]


@pytest.mark.parametrize("shapes, weights", LLAMA.items())
def test_a_model_s_layers_are_measured_from_one_token_to_many(gpu_plan, shapes, weights):
    groups = gpu_plan(shapes)
    assert [unit["shape"] for unit in groups["decode"]] == [[M, K, N] for K, N in weights for M in (1, 16, 64)]
    assert all(unit["mode"] == "graph" and unit["functions"] == ["cuBLAS FP16", "matmul_int8"] for unit in groups["decode"])
    for group in ("gemm", "matmul_int8", "other libraries"):
        assert [unit["shape"] for unit in groups[group]] == [[16384, K, N] for K, N in weights]
        assert all(unit["mode"] == "eager" for unit in groups[group])
    assert {unit["name"] for unit in groups["other libraries"]} == {"others"}
    assert {unit["name"] for unit in groups["roofs"]} == {"roof"} and {unit["mode"] for unit in groups["right"]} == {"check"}


def test_shapes_of_a_file_are_decode_up_to_128_rows(gpu_plan, tmp_path):
    path = tmp_path / "mine.json"
    path.write_text("[[128, 64, 32], [129, 64, 32]]")
    groups = gpu_plan(str(path))
    assert [unit["shape"] for unit in groups["decode"]] == [[128, 64, 32]]
    assert [unit["shape"] for unit in groups["gemm"]] == [[129, 64, 32]] == [u["shape"] for u in groups["matmul_int8"]]


def test_baselines_not_asked_for_or_missing_are_left_out(gpu_plan, monkeypatch):
    def optional(groups):
        return {name for unit in units_of(groups) for name in unit["functions"]} & set(OPTIONAL)

    assert optional(gpu_plan()) == set(OPTIONAL)
    assert optional(gpu_plan(baselines=["torchao"])) == {"torchao"}
    monkeypatch.setattr("checks.bench.workloads.missing", lambda name: "gone" if name == "torchao" else "")
    assert optional(gpu_plan()) == set(OPTIONAL) - {"torchao"} and optional(gpu_plan(baselines=["torchao"])) == set()
    assert all(unit["functions"] for unit in units_of(gpu_plan(baselines=[])))


@pytest.mark.parametrize("name, shape, taken", [
    ("torch._int_mm", (17, 8, 16), True), ("torch._int_mm", (16, 8, 16), False), ("torch._int_mm", (17, 12, 16), False),
    ("torch.compile", (17, 8, 12), False), ("torch.compile", (17, 8, 8), True), ("torch._scaled_mm FP8", (1, 16, 32), True),
    ("torch._scaled_mm FP8", (1, 24, 32), False), ("torch._scaled_mm FP8", (1, 32, 24), False),
    ("matmul_int8", (1, 7, 9), True)])
def test_which_shapes_a_baseline_takes(name, shape, taken):
    assert fits(name, *shape) == taken


@pytest.mark.parametrize("capability, said", [((8, 6), "compute capability 8.9"), (None, "8.9"), ((8, 9), ""), ((9, 0), "")])
def test_fp8_needs_its_tensor_cores(monkeypatch, capability, said):
    monkeypatch.setattr(baselines, "INTERPRETED", False)
    monkeypatch.setattr(baselines, "capability", lambda: capability)
    assert said in missing("torch._scaled_mm FP8") and bool(missing("torch._scaled_mm FP8")) == bool(said)
    assert missing("torch._int_mm") == ""


def test_a_library_is_missing_until_it_is_installed_on_a_gpu(monkeypatch):
    for installed, interpreted, said in ((None, True, "torchao is not installed (pip install torchao)"),
                                         ("spec", True, "needs a GPU"), ("spec", False, "")):
        monkeypatch.setattr(baselines.importlib.util, "find_spec", lambda name, installed=installed: installed)
        monkeypatch.setattr(baselines, "INTERPRETED", interpreted)
        assert missing("torchao") == said


def test_a_unit_is_told_apart_by_all_it_holds():
    a = unit("gemm", ["f", "g"], (1, 2, 3))
    assert key(a) == "gemm 1x2x3 eager | f, g" and a["name"] == "gemm"
    others = [unit("gemm", ["f"], (1, 2, 3)), unit("gemm", ["f", "g"], (1, 2, 4)),
              unit("gemm", ["f", "g"], (1, 2, 3), "graph"),
              unit("gemm", ["f", "g"], (1, 2, 3), name="roof")]
    assert len({key(u) for u in [a, *others]}) == 5


@pytest.mark.skipif(not INTERPRETED, reason="there is a GPU")
def test_rows_of_a_unit_have_its_name_and_lack_what_is_left_out():
    made = unit("quant_prefill", ["copy", "quantize_int8_perrow"], (2, 40), name="roof")
    rows = measure(made, perf.Watcher(), without=("copy",))
    assert [(row["test"], row["function"], row["M"], row["K"]) for row in rows] == [("roof", "quantize_int8_perrow", 2, 40)]


@pytest.mark.parametrize("content, said", [
    ("[[1, 2]]", "list of shapes"), ("[]", "list of shapes"), ('{"M": 1}', "list of shapes"), ("[[1, 2, true]]", "list of"),
    ("[[1, 2, 0]]", "above 0"), ("[[1, 2, -3]]", "above 0"), ("[[1, 2, 3.0]]", "whole numbers"),
    ("[[1, 2, 3, 4]]", "list of"), ("[[1, 2, 3], 4]", "list of"), ("[[1, 2, 3]", "Expecting"), (None, "No such file")])
def test_shapes_that_cannot_be_measured_are_refused(content, said, tmp_path, monkeypatch):
    monkeypatch.setattr("checks.bench.workloads.INTERPRETED", False)
    path = tmp_path / "shapes.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BadShapes, match=said):
        plan(str(path))


@pytest.mark.skipif(not INTERPRETED, reason="there is a GPU")
def test_a_missing_baseline_says_why():
    assert "pip install" in missing("gemlite") or "needs a GPU" in missing("gemlite")
    assert missing("cuBLAS FP16") == ""


