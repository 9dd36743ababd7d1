"""Recordings as data: what a stranger's process may have written into them."""

import json
import linecache

import pytest
import torch

from checks.executor import source
from checks.host.recorder import record
from checks.host.transport import MOST_STEPS, BadRecording, pack, unpack
from kernels.hello import vector_add_kernel


def add(x, y):
    out = torch.empty_like(x)
    vector_add_kernel[(1,)](x, y, out, 3, BLOCK=4)
    return out


def packed() -> dict:
    return pack(record(add, {"x": torch.ones(3), "y": torch.ones(3)}))


def test_a_recording_arrives_as_it_was():
    recording = unpack(packed(), [])
    assert [step.name for step in recording.launches] == ["vector_add_kernel"] and recording.outputs


@pytest.mark.parametrize("step", [
    {"operator": "load_library::__globals__.get", "arguments": ["sys"], "keywords": {}, "results": None},
    {"operator": "__dict__::__setitem__.__call__", "arguments": ["x", 1], "keywords": {}, "results": None},
    {"operator": "aten::no_such", "arguments": [], "keywords": {}, "results": None},
    {"operator": "aten", "arguments": [], "keywords": {}, "results": None},
    {"operator": "aten::clone", "arguments": [{"type": "nonsense"}], "keywords": {}, "results": None},
    {"operator": "aten::clone", "arguments": [{"device": "here"}], "keywords": {}, "results": None}])
def test_a_step_that_is_no_operator_of_torch_s(step):
    data = packed()
    data["steps"].append(step)
    with pytest.raises(BadRecording):
        unpack(data, [])


def test_a_signature_of_other_arguments():
    data = packed()
    data["steps"][-1]["signature"]["z"] = "i32"
    with pytest.raises(BadRecording, match="other arguments"):
        unpack(data, [])


def test_more_steps_or_other_constants_than_there_may_be():
    data = packed()
    data["steps"] = data["steps"][-1:] * MOST_STEPS
    assert len(unpack(data, []).launches) == MOST_STEPS
    for changed, constants in ((data | {"steps": [*data["steps"], data["steps"][0]]}, []), (data | {"constants": [7]}, []),
                               (data, [torch.ones(1)])):
        with pytest.raises(BadRecording, match=r"^\d+ steps, [01] constants$"):
            unpack(changed, constants)


HALF = "@triton.jit\ndef half(x):\n    return x / 2\n"
KERNEL = """@triton.jit
def halves_kernel(x_ptr):
    tl.store(x_ptr, half(tl.load(x_ptr)))

def halves(x):
    halves_kernel[(1,)](x)
    return x
"""


def notebook(*cells: str) -> dict:
    """What these cells define."""
    names = {"__name__": "__main__"}
    for number, text in enumerate(cells):
        file = f"<cell {number} of {len(cells)}>"
        linecache.cache[file] = (len(text), None, source.source_lines(text), file)
        exec(compile(text, file, "exec"), names)
    return names


def test_a_kernel_is_the_same_wherever_it_stands():
    imports = "import triton\nimport triton.language as tl"
    several = notebook(imports, "x = 1", "\n\n" + HALF, "# mine\n" + KERNEL)
    few = notebook(imports, HALF, KERNEL)
    packs = [pack(record(names["halves"], {"x": torch.ones(3)})) for names in (several, few)]
    assert packs[0] == packs[1] and len(packs[0]["kernels"]) == 1
    assert source.describe(several["halves_kernel"]) != source.describe(few["halves_kernel"]), "for its author it is not"
    assert "<cell" not in packs[0]["kernels"][0]
    assert [file["functions"].popitem()[1][0] for file in json.loads(packs[0]["kernels"][0])["files"].values()] == [1, 1]
    assert source.define(packs[0]["kernels"][0]).__name__ == "halves_kernel"
