"""Recordings as data: what a stranger's process may have written into them."""

import pytest
import torch

from checks.host.recorder import record
from checks.host.transport import BadRecording, pack, unpack
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
