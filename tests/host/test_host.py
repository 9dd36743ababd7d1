"""checks/host: what a wrapper asks for is noted whole, whatever its style, and playing it back gives what a call gives."""

import contextlib
import functools
import sys
import threading
import warnings

import pytest
import torch
from triton.runtime import Autotuner
from triton.runtime.interpreter import InterpretedFunction
from triton.tools.tensor_descriptor import TensorDescriptor

from checks.exercises import EXERCISES
from checks.host.playback import play
from checks.host.recorder import NeedsNumbers, discarding_launches, record
from checks.host.steps import DescriptorRef, Ref
from checks.judge.execution import attempt_executed
from checks.judge.exercise import Exercise
from checks.judge.memory import is_poison, poison_
from checks.judge.trial import prepare
from kernels.hello import vector_add_kernel
from kernels.runtime import triton

VECTOR_ADD = EXERCISES["vector_add_kernel"]
X = {"x": torch.arange(12, dtype=torch.float32).reshape(3, 4)}


def interpret(step, arguments):
    InterpretedFunction(step.kernel)[step.grid](**arguments, **step.options)


@pytest.mark.parametrize("exercise", [e for e in EXERCISES.values() if e.is_kernel], ids=lambda e: e.name)
def test_playing_back_gives_the_bits_of_a_call(exercise: Exercise):
    function = exercise.callable_for(exercise.answer_function())
    for case in exercise.cases[1:]:  # the first is the largest
        inputs = prepare(exercise, case, 0).inputs
        recording = record(function, inputs)
        assert recording.launches and not exercise.work_of(recording.operators)
        called = function(**inputs)
        for ours, theirs in zip(play(recording, inputs, interpret, poison_),
                                called if isinstance(called, tuple) else (called,), strict=True):
            assert ours.dtype == theirs.dtype and ours.stride() == theirs.stride()
            assert torch.equal(ours.double().nan_to_num(7), theirs.double().nan_to_num(7))


def scratch_and_a_table(x):
    """Allocates on x's device by name, and brings numbers of its own."""
    return torch.zeros(3, device=x.device), torch.ones(2, device="cpu") + torch.tensor([1.0, 2.0])


def test_all_is_played_on_the_device_that_is_asked_for():
    outputs = play(record(scratch_and_a_table, X), {"x": X["x"].to("meta")}, interpret, where=torch.device("meta"))
    assert {one.device.type for one in outputs} == {"meta"}


def in_a_block(x):
    y = torch.empty_like(x)
    with contextlib.nullcontext():
        vector_add_kernel[triton.cdiv(x.numel(), 8),](x_ptr=x, y_ptr=x, out_ptr=y, N=x.numel(), BLOCK=8)
    return y


def by_lambda(x):
    y = x.new_empty(x.shape)
    vector_add_kernel[lambda meta: (triton.cdiv(meta["N"], meta["BLOCK"]),)](x, x, y, x.numel(), BLOCK=8)
    return y


class Wrapper(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return by_lambda(x)


def logged(function):
    @functools.wraps(function)
    def call(*args, **kwargs):
        return function(*args, **kwargs)
    return call


def written_for_a_gpu(x):
    y = by_lambda(x.cuda())
    torch.cuda.synchronize()
    return y


@pytest.mark.parametrize("style", [in_a_block, by_lambda, Wrapper.apply, logged(by_lambda), lambda x: by_lambda(x[:]),
                                   written_for_a_gpu])
def test_any_style_of_wrapper_counts(style):
    recording = record(lambda x: style(x), X)
    (launch,) = recording.launches
    assert launch.kernel is vector_add_kernel.fn and launch.grid == (2, 1, 1) and launch.arguments["N"] == 12
    assert torch.equal(play(recording, X, interpret, poison_)[0], X["x"] * 2)
    assert VECTOR_ADD.work_of(recording.operators) == []


@pytest.mark.parametrize(("computes", "operator"), [
    (lambda x: x @ x.t(), "aten::mm"), (lambda x: x * 2, "aten::mul.Tensor"), (lambda x: x.amax(1), "aten::amax"),
    (lambda x: torch.randn(3), "aten::randn"), (lambda x: x.round_(), "aten::round_")])
def test_computing_is_named(computes, operator):
    assert operator in VECTOR_ADD.work_of(record(computes, X).operators)


@torch.library.custom_op("workshop_tests::doubled", mutates_args=())
def doubled(x: torch.Tensor) -> torch.Tensor:
    return by_lambda(x)


@torch.library.triton_op("workshop_tests::doubled_in_graphs", mutates_args=())
def doubled_in_graphs(x: torch.Tensor) -> torch.Tensor:
    out = torch.empty_like(x)
    torch.library.wrap_triton(vector_add_kernel)[(3,)](x, x, out, 12, BLOCK=4)
    return out


@pytest.mark.parametrize("operator", [doubled, doubled_in_graphs], ids=("custom_op", "triton_op"))
def test_what_happens_in_an_operator_of_one_s_own_counts(operator):
    recording = record(lambda x: operator(x), X)
    assert [launch.name for launch in recording.launches] == ["vector_add_kernel"]
    assert torch.equal(play(recording, X, interpret, poison_)[0], X["x"] * 2)
    assert VECTOR_ADD.work_of(recording.operators) == []


def test_an_operator_of_which_nothing_is_known_is_refused():
    with torch.library._scoped_library("workshop_tests", "FRAGMENT") as library:
        library.define("same(Tensor x) -> Tensor")
        library.impl("same", lambda x: x.clone(), "CompositeExplicitAutograd")
        with pytest.raises(NeedsNumbers, match="workshop_tests::same"):
            record(lambda x: torch.ops.workshop_tests.same(x), X)


@pytest.mark.parametrize("reads", [
    lambda x: x.sum().item(), lambda x: x.tolist(), lambda x: x if (x > 0).all() else -x, lambda x: x[x > 3],
    lambda x: torch.tensor(float(x[0, 0])), lambda x: x.nonzero(), lambda x: x.numpy(), lambda x: x.unique()])
def test_a_number_that_is_read_is_refused(reads):
    with pytest.raises(NeedsNumbers, match=r"aten|^Tensor.numpy$"):
        record(reads, X)


def test_what_is_wrong_is_no_number_that_is_read():
    with pytest.raises(RuntimeError, match="shape"):
        record(lambda x: x.view(5), X)


@pytest.mark.parametrize("kept", [None, 7])
def test_python_s_tracebacks_are_as_long_as_before(monkeypatch, kept):
    if kept is None:
        monkeypatch.delattr(sys, "tracebacklimit", raising=False)
    else:
        monkeypatch.setattr(sys, "tracebacklimit", kept, raising=False)
    record(lambda x: x, X)
    assert vars(sys).get("tracebacklimit") == kept


@pytest.mark.parametrize(("grid", "size"), [
    (2, (2, 1, 1)), ((2,), (2, 1, 1)), ([2, 3], (2, 3, 1)), ((2, 3, 4), (2, 3, 4)), (lambda meta: meta["N"], (12, 1, 1)),
    (lambda meta: (1, meta["BLOCK"]), (1, 8, 1)), ((2.0, True), (2, 1, 1))])
def test_a_launch_s_grid(grid, size):
    (launch,) = record(lambda x: vector_add_kernel[grid](x, x, x, 12, BLOCK=8), X).launches
    assert launch.grid == size and all(type(programs) is int for programs in launch.grid)


def test_a_launch_s_options_and_no_launch_that_only_compiles():
    asked = {"num_warps": 2, "num_stages": 5, "num_ctas": 1, "maxnreg": 64}

    def launches(x):
        vector_add_kernel[1,](x, x, x, 12, BLOCK=8, **asked)
        vector_add_kernel[1,](x, x, x, 12, BLOCK=8, num_warps=None, num_stages=0)
        vector_add_kernel.run(x, x, x, 12, BLOCK=8, grid=(1,), warmup=True)

    recording = record(launches, X)
    assert [launch.options for launch in recording.launches] == [asked, {"num_stages": 0}]
    (first, _) = recording.launches
    assert first.signature == {**dict.fromkeys(("x_ptr", "y_ptr", "out_ptr"), "*fp32"), "N": "i32", "BLOCK": "constexpr"}
    assert (first.name, first.constexprs) == ("vector_add_kernel", {"BLOCK": 8})


@pytest.mark.parametrize(("keywords", "refused"), [
    ({"num_warps": 4, "launch_pdl": False, "maxnreg": None}, None), ({"num_wraps": 4}, "num_wraps"), ({"BLOK": 8}, "BLOK")])
def test_a_keyword_that_a_gpu_refuses_is_refused(keywords, refused):
    """The interpreter leaves it out without a word."""
    def launch(x):
        vector_add_kernel[1,](x, x, x, 12, BLOCK=16, **keywords)

    with pytest.raises(TypeError, match=f"unexpected keyword argument '{refused}'") if refused else contextlib.nullcontext():
        record(launch, X)


@pytest.mark.parametrize(("given", "built_in"), [
    ({"N": 12}, {}), ({"N": 1}, {"N": 1}), ({"N": None}, {"N": None}), ({"N": True}, {}), ({"N": 1.0}, {})])
def test_what_a_gpu_builds_into_a_kernel(given, built_in):
    (launch,) = record(lambda x: vector_add_kernel[1,](x, x, x, BLOCK=8, **given), X).launches
    assert launch.constexprs == built_in | {"BLOCK": 8} and launch.arguments["N"] == given["N"]
    assert (launch.signature["N"] == "constexpr") == bool(built_in)


def test_tensors_that_die_on_the_way_keep_their_numbers():
    """Python gives the next tensor the address of one that nobody holds any more."""
    def wrapper(x):
        for i in range(40):
            x = (x + i).t().clone() * torch.tensor(2.0)
        return x

    assert torch.equal(play(record(wrapper, X), X, interpret)[0], wrapper(**X))


def test_to_ask_where_a_tensor_lies_is_no_reason_to_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert record(lambda x: x.data_ptr() % 16, X).outputs == (0,)


def test_another_thread_s_launches_are_its_own():
    done = []

    def elsewhere():
        done.append(by_lambda(**X))

    def wrapper(x):
        (thread := threading.Thread(target=elsewhere)).start()
        thread.join()
        return x

    assert record(wrapper, X).launches == [] and torch.equal(done[0], 2 * X["x"])


@pytest.mark.parametrize(("returned", "outputs"), [
    (lambda x: (x, 3), (Ref(0), 3)), (lambda x: [x, 3], (Ref(0), 3)), (lambda x: (x,), ((Ref(0),),)),
    (lambda x: [x], ([Ref(0)],)), (lambda x: x, (Ref(0),)), (lambda x: None, (None,)), (lambda x: (), ()),
    (lambda x: {"y": x}, ({"y": Ref(0)},))])
def test_what_is_returned_is_noted_one_by_one(returned, outputs):
    recording = record(returned, X)
    assert recording.outputs == outputs and recording.inputs == {"x": Ref(0)}
    assert len(play(recording, X, interpret)) == len(outputs)


def test_the_numbers_are_nowhere_in_what_the_wrapper_holds():
    seen = {}

    def keep(x):
        seen.update(x=x, storage=x.untyped_storage(), where=x.data_ptr())
        return torch.tensor([1.0, 2.0])

    recording = record(keep, X)
    assert seen["where"] == 0 and seen["storage"].device.type == "meta"
    assert torch.equal(play(recording, X, interpret)[0], torch.tensor([1.0, 2.0]))


def test_empty_tensors_are_handed_over_and_inputs_keep_aliases():
    recording = record(lambda x: (torch.empty(4), x.view(-1), 7), X)
    new, view, number = play(recording, X, interpret, poison_)
    assert is_poison(new).all() and view.data_ptr() == X["x"].data_ptr() and number == 7
    assert isinstance(recording.outputs[1], Ref) and recording.outputs[2] == 7


CONFIGS = [triton.Config({"BLOCK": 4}), triton.Config({"BLOCK": 16}), triton.Config({"BLOCK": 8})]


@pytest.mark.parametrize("fails", [False, True])
def test_an_autotuner_takes_its_largest_blocks_this_once(fails):
    tuned = triton.autotune(CONFIGS, key=["N"])(vector_add_kernel)
    tuned.cache = measured = {(12, "float32"): CONFIGS[0]}

    def wrapper(x):
        y = torch.empty_like(x)
        tuned[lambda meta: (triton.cdiv(12, meta["BLOCK"]), x.shape[int(fails) * 5])](x, x, y, 12)
        return y

    if fails:
        with pytest.raises(IndexError):
            record(wrapper, X)
    else:
        (launch,) = record(wrapper, X).launches
        assert launch.grid == (1, 3, 1) and launch.arguments["BLOCK"] == 16
    assert tuned.cache is measured and measured == {(12, "float32"): CONFIGS[0]}


def test_how_large_a_configuration_s_blocks_are():
    with discarding_launches():
        for others in ({}, {"EVEN": False}, {"KIND": "long"}, {"SPLIT": 0}, {"GROUP": -1}, {"NOTHING": None}):
            assert Autotuner._bench(None, config=triton.Config({"BLOCK_M": 8, "BLOCK_N": 4} | others)) == 1 / 32


def test_arguments_come_in_the_order_of_the_kernels():
    def wrapper(x):
        y = torch.empty_like(x)
        vector_add_kernel[1,](x, N=12, out_ptr=y, y_ptr=x, BLOCK=16)
        return y

    (launch,) = record(wrapper, X).launches
    assert list(launch.arguments) == ["x_ptr", "y_ptr", "out_ptr", "N", "BLOCK"]
    assert attempt_executed(wrapper, X, 20).outputs[0].equal(2 * X["x"])


def test_a_descriptor_is_made_again_over_the_real_tensor():
    def wrapper(x):
        vector_add_kernel[1,](TensorDescriptor(x, [3, 2], [4, 1], [1, 4], padding="nan"), x, x, 12, BLOCK=16)

    recording, given = record(wrapper, X), []
    play(recording, X, lambda step, arguments: given.append(arguments["x_ptr"]))
    assert vars(given[0]) == vars(TensorDescriptor(X["x"], [3, 2], [4, 1], [1, 4], padding="nan")), "but for the tensor"
    assert given[0].base is X["x"]
    assert recording.launches[0].arguments["x_ptr"] == DescriptorRef(Ref(0), (3, 2), (4, 1), (1, 4), "nan")


def test_an_error_of_the_wrapper_comes_through_and_ends_it():
    with pytest.raises(ZeroDivisionError):
        record(lambda x: 1 // 0, X)
    assert torch.equal(by_lambda(**X), X["x"] * 2)  # launches run again
