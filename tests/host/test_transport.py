"""Recordings as data: what a stranger's process may have written into them."""

import json
import linecache

import pytest
import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from checks.executor import source
from checks.executor.compile import plain_values
from checks.host.recorder import record
from checks.host.steps import DescriptorRef, Operator, Recording, Ref
from checks.host.transport import MOST_STEPS, BadRecording, NotAsData, pack, unpack
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


@triton.jit
def takes_all_kernel(x_ptr, desc, bias_ptr, n, DTYPE: tl.constexpr, SIZES: tl.constexpr, NAME: tl.constexpr,
    WIDTH: tl.constexpr,
                     NOTHING: tl.constexpr):
    pass


def test_a_launch_s_arguments_of_every_kind_arrive():
    def launches(x):
        takes_all_kernel[(1, 2, 3)](x, TensorDescriptor(x, [2, 3], [4, 1], [1, 4], padding="nan"), None, 5, DTYPE=tl.float16,
                                    SIZES=(4, 8), NAME="fast", WIDTH=tl.constexpr(16), NOTHING=None, num_warps=2)
        takes_all_kernel[(1,)](x, x, 0.5, 1, DTYPE=tl.int8, SIZES=(4, 8), NAME="a", WIDTH=8, NOTHING=None)
        vector_add_kernel[(1,)](x, x, x, 3, BLOCK=4)

    recording = record(launches, {"x": torch.ones(2, 4)})
    data = json.loads(json.dumps(pack(recording)))
    assert len(data["kernels"]) == 2, "each once"
    for sent, came in zip(recording.launches, unpack(data, []).launches, strict=True):
        assert (came.name, came.grid, came.options, came.signature) == (sent.name, sent.grid, sent.options, sent.signature)
        assert came.kernel == source.describe(sent.kernel, placed=False)
        assert came.arguments == {name: value for name, value in sent.arguments.items() if name not in sent.constexprs}
        assert came.constexprs == json.loads(json.dumps(plain_values(sent.constexprs)))


VALUES = [
    None, True, 3, 2.5, "text", torch.float16, torch.bfloat16, torch.int8, torch.bool, torch.strided,
    torch.contiguous_format, torch.preserve_format, torch.channels_last, torch.device("cpu"), torch.device("cuda", 1),
        tl.int8,
    tl.float8e4nv, Ref(3), DescriptorRef(Ref(1), (4, 8), (8, 1), (2, 4), "zero"), (1, (2, None)), [1, [torch.int32, (3,)]],
        (), []]


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_a_value_of_any_kind_arrives_as_it_was(value):
    step = Operator("aten::clone", (value,), {"named": value}, (Ref(1), [Ref(2), value]))
    sent = Recording({"x": Ref(0), "value": value}, {4: torch.ones(2), 2: torch.zeros(1)}, [step], (Ref(4), value))
    came = unpack(json.loads(json.dumps(pack(sent))), list(sent.constants.values()))
    assert came == sent and list(map(type, came.outputs)) == list(map(type, sent.outputs))


def test_a_number_of_the_compiler_arrives_with_its_value():
    sent = Recording(outputs=(tl.constexpr(3), tl.constexpr((1, tl.float16))))
    assert [one.value for one in unpack(pack(sent), []).outputs] == [3, (1, tl.float16)]


@pytest.mark.parametrize("value", [object(), 1j, {"a": 1}, {1}, b"text", torch.ones(1), slice(1)],
    ids=lambda one: type(one).__name__)
def test_what_does_not_travel_is_named(value):
    for step in (Operator("aten::clone", ([value],), {}, None), Operator("aten::clone", (), {"a": (value,)}, None),
                 Operator("aten::clone", (), {}, value)):
        with pytest.raises(NotAsData, match=f"^a {type(value).__name__}$"):
            pack(Recording(steps=[step]))


@pytest.mark.parametrize("changes", [
    {"kernels": None}, {"steps": 3}, {"steps": [3]}, {"steps": [{}]}, {"inputs": 3}, {"inputs": {"x": {"ref": "y"}}},
    {"inputs": {"x": {"nowhere": 1}}}, {"inputs": {"x": {"ref": 1, "tuple": []}}}, {"outputs": [{"dtype": "nn"}]},
    {"outputs": [{"layout": "float16"}]}, {"outputs": [{"memory": "strided"}]}, {"outputs": [{"dtype": "no_such"}]},
    {"outputs": [{"device": "elsewhere"}]}, {"outputs": [{"device": 7}]}, {"outputs": [{"type": "int9"}]},
    {"outputs": [{"descriptor": [0]}]},
    {"outputs": [b"bytes"]}, {"constants": ["x"]}, {"outputs": None}], ids=str)
def test_what_is_no_recording(changes):
    with pytest.raises(BadRecording):
        unpack(packed() | changes, [torch.ones(1)] * ("constants" in changes))


@pytest.mark.parametrize("changes", [
    {"kernel": 1}, {"kernel": "x"}, {"grid": [1, 1]}, {"grid": [1, 1, "x"]}, {"grid": 1}, {"options": {"num_warps": "many"}},
    {"constexprs": 3}, {"constexprs": {}}, {"arguments": {}}, {"signature": {}}], ids=str)
def test_what_is_no_launch(changes):
    data = packed()
    data["steps"][-1] |= changes
    with pytest.raises(BadRecording):
        unpack(data, [])


def test_a_recording_that_is_nested_without_end():
    data = packed()
    for _ in range(2000):
        data["outputs"] = [data["outputs"]]
    with pytest.raises(BadRecording, match=r"^RecursionError: .{1,200}$"):
        unpack(data, [])
    data = packed()
    data["steps"][-1]["name"] = "k" * 300
    assert unpack(data, []).launches[0].name == "k" * 200
    with pytest.raises(BadRecording) as error:
        unpack(data | {"outputs": [{"device": "x" * 999}]}, [])
    assert len(str(error.value)) == 200


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
