"""In a child: runs a lesson's cells as a student wrote them, and calls a function of theirs case by case.

Without numbers, on tensors that have shapes and no data, a call becomes a recording, which the grader has played back
elsewhere. With numbers the function runs here, kernels in Triton's interpreter: what is reported beside the bytes of such
results is evidence and no proof, for the student's Python could have made it.
"""

import contextlib
import functools
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
import triton
from torch.utils._python_dispatch import TorchDispatchMode
from triton.runtime.autotuner import Autotuner
from triton.runtime.interpreter import GridExecutor

from checks.grader.sandbox import wire
from checks.grader.sandbox.answers import answer_for, decode_inputs, describe_error
from checks.grader.sandbox.values import encode
from checks.grader.sandbox.virtual import define, install, missed
from checks.host.cells import run_cells
from checks.host.notebook import Candidate, Notebook
from checks.host.recorder import NeedsNumbers, record
from checks.host.state import keeps_state
from checks.host.transport import NotAsData, pack
from checks.judge.attempt import attempt, deadline, student_line

INPUT_LIMIT = 1 << 30
CELL_S = 10  # for one cell of the notebook; what it does beside defining things counts for nothing


class _Case:
    """The case under way: whether a kernel is being launched, and what happens before or instead of a launch."""

    launching = False
    before_launch: Callable[[], None] | None = None
    without_launches = False


def warm_up() -> None:
    """In the fork server, before any child: the first launch of all costs a second, and every child shares it."""
    torch.set_num_threads(1)
    namespace: dict[str, Any] = {"__name__": "first"}
    define("import triton\nimport triton.language as tl\n\n\n@triton.jit\ndef first(x_ptr, N, BLOCK: tl.constexpr):\n"
           "    offs = tl.arange(0, BLOCK)\n    mask = offs < N\n    x = tl.load(x_ptr + offs, mask=mask, other=0.0)\n"
           "    tl.store(x_ptr + offs, x + tl.sum(x, axis=0), mask=mask)\n", "first", namespace)
    _follow_launches()
    _one_config_is_enough()

    def first(x):
        with _Operators():
            namespace["first"][1,](x, 3, BLOCK=4)
            return torch.empty_like(x).mul_(2) + x.double().amax()

    encode(attempt(first, {"x": torch.ones(3)}, 60).outputs)
    pack(record(lambda x: (namespace["first"][1,](x, 3, BLOCK=4), x.T.contiguous())[1], {"x": torch.ones(3, 2)}))
    run_cells(["import torch\nx = torch.randn(4, 4)\ny = (x @ x).abs().amax(dim=1).to(torch.int8)\nprint(y)",
               "z = torch.manual_seed(0), torch.zeros(2), torch.full((2,), 1.0), torch.randint(-5, 5, (3,)).half()"], {})


def _follow_launches() -> None:
    """Launches can be told apart from what happens around them, and replaced."""
    call = GridExecutor.__call__

    def launch(self, *args, **kwargs):
        if _Case.before_launch is not None:
            _Case.before_launch()
        if _Case.without_launches:
            return None
        _Case.launching = True
        try:
            return call(self, *args, **kwargs)
        finally:
            _Case.launching = False

    GridExecutor.__call__ = launch


def _one_config_is_enough() -> None:
    """The interpreter has nothing to time, so an autotuned kernel takes its first configuration."""
    start = Autotuner.__init__

    def with_one(self, *args, **kwargs):
        start(self, *args, **kwargs)
        if triton.knobs.runtime.interpret:
            self.configs = self.configs[:1]

    Autotuner.__init__ = with_one


class _Operators(TorchDispatchMode):
    """Counts the torch operators that ran outside launches."""

    def __init__(self):
        super().__init__()
        self.ran: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not _Case.launching:
            self.ran[func.name()] += 1
        return func(*args, **(kwargs or {}))


def _run(job: dict) -> Notebook:
    if not job["numbers"]:  # kernels are then what they are on a GPU, and none is run
        os.environ.pop("TRITON_INTERPRET", None)
    notebook = Notebook()
    install(job["modules"], notebook.check)
    ours = iter([True] * len(job["setup"]) + job["handed_out"])
    lend = functools.partial(_lend, job["lent"], notebook.namespace, {})
    notebook.run(job["setup"], job["cells"], job["numbers"], functools.partial(_cell, ours, lend))
    return notebook


def _lend(lent: dict[str, str], namespace: dict[str, Any], standing: dict[str, Any]) -> None:
    """Put ours in the place of what cells have defined by these names. `standing` holds what stands there since."""
    for name, source in lent.items():
        if name not in standing or namespace.get(name) is not standing[name]:
            define(source, name, namespace)
            standing[name] = namespace[name]


@contextlib.contextmanager
def _cell(ours: Iterator[bool], lend: Callable[[], None]) -> Iterator[None]:
    """The limits of the next cell, and what follows on it: a later one may call what is lent. What the lesson's own cells
    lack does not matter: they show what answers do."""
    try:
        with deadline(CELL_S):
            yield
    finally:
        lend()
        _Others.cells_lack |= not next(ours, False) and bool(missed)
        missed.clear()


def serve(sock) -> None:
    """Read the job, then answer each question until the grader hangs up."""
    job, _ = wire.receive(sock, 0)
    sys.dont_write_bytecode = True
    try:
        notebook = _run(job)
    except BaseException as error:
        wire.send(sock, {"nonce": None, "error": describe_error(error, student_line(error))})
        return
    wire.send(sock, {"nonce": None, "ready": True, "errors": [vars(error) for error in notebook.errors[:100]]})
    while True:
        asked, data = wire.receive(sock, INPUT_LIMIT)
        answer: dict[str, Any]
        try:
            answer, payload = _MODES[asked["mode"]](notebook, asked, data)
        except BaseException as error:  # such as SystemExit, or no memory for reading the results
            answer, payload = {"outputs": [], "error": describe_error(error, student_line(error))}, b""
        _Others.note_answer(asked, answer)
        answer["nonce"] = asked["nonce"]
        wire.send(sock, answer, payload)


def _candidates(notebook: Notebook, asked: dict, _: bytes) -> tuple[dict, bytes]:
    found = notebook.candidates(asked["name"], asked["wrapper"])
    return {"candidates": [{"own_wrapper": one.own_wrapper is not None, "function": one.name,
                            "uses": sorted(one.used(asked["others"]))} for one in found],
            "influenced": _Others.may_matter(asked["name"])}, b""


def _influenced(notebook: Notebook, asked: dict, _: bytes) -> tuple[dict, bytes]:
    """Whether what came of a call here may have to do with other exercises: with what their functions left behind, or with
    names that this library lacks for their sake."""
    return {"influenced": _Others.may_matter(asked["name"])}, b""


class _Others:
    """What is known of the part that other exercises of the lesson may have in a result."""

    keep_state: dict[tuple[str, int], bool] = {}  # by exercise and candidate, of functions that were called here
    lacking: set[str] = set()  # exercises whose functions asked for names that are not here
    cells_lack: bool = False  # whether a student's own cell did

    @classmethod
    def may_matter(cls, name: str) -> bool:
        several = len({known for known, _ in cls.keep_state} | {name}) > 1
        return cls.cells_lack or name in cls.lacking or several and any(cls.keep_state.values())

    @classmethod
    def note_call(cls, asked: dict, candidate: Candidate) -> None:
        known = asked["name"], asked["candidate"]
        if known not in cls.keep_state:
            cls.keep_state[known] = any(keeps_state(one) for one in (candidate.function, candidate.own_wrapper))

    @classmethod
    def note_answer(cls, asked: dict, answer: dict) -> None:
        error = answer.get("error")
        if missed or error and error["type"] in ("NameError", "AttributeError", "ImportError", "ModuleNotFoundError"):
            cls.lacking.add(asked["name"])
        missed.clear()


def _function(notebook: Notebook, asked: dict) -> Callable[..., Any]:
    """What to call: the student's function or wrapper, or the wrapper or adapter that is sent around their function."""
    candidate = notebook.candidates(asked["name"], asked["wrapper"])[asked["candidate"]]
    _Others.note_call(asked, candidate)
    if asked["through"]:
        define(asked["entry_code"], asked["through"], harness := {"__name__": asked["through"]})
        return functools.partial(harness[asked["through"]], candidate.function)
    if candidate.own_wrapper is not None:
        return candidate.bound_wrapper(asked["name"])
    if asked["wrapper"] is None:
        return candidate.function
    around = {"__name__": asked["wrapper"], asked["name"]: candidate.function}
    define(asked["entry_code"], asked["wrapper"], around)
    return around[asked["wrapper"]]


def _record(notebook: Notebook, asked: dict, _: bytes) -> tuple[dict, bytes]:
    """What the call asks for, from inputs of which only the layout is known here."""
    inputs = {name: _outline(*value[1:4]) if value[0] == "tensor" else decode_inputs({name: value}, b"")[name]
              for name, value in asked["inputs"].items()}
    try:
        with deadline(asked["timeout_s"]):
            recording = record(_function(notebook, asked), inputs)
        packed = pack(recording)
    except (NeedsNumbers, NotAsData) as error:
        return {"needs_numbers": str(error)[:300]}, b""
    described, payload = encode(recording.constants.values())
    return {"recording": packed, "constants": described}, payload


def _outline(dtype: str, shape: list[int], strides: list[int]) -> torch.Tensor:
    return torch.empty_strided(shape, strides, dtype=getattr(torch, dtype), device="meta")


def _call(notebook: Notebook, asked: dict, data: bytes) -> tuple[dict, bytes]:
    inputs, decoys = decode_inputs(asked["inputs"], data), {}
    operators, files = _Operators(), set(os.listdir("."))  # noqa: PTH208
    function = _function(notebook, asked)
    if asked["mode"] == "decoys":  # the real numbers arrive only when a kernel is launched
        decoys = {name: torch.zeros_like(value) for name, value in inputs.items() if isinstance(value, torch.Tensor)}

    def call(**given):
        def make_real():
            for name in decoys:
                given[name].copy_(inputs[name])

        _Case.before_launch = make_real if decoys else None
        _Case.without_launches = asked["mode"] == "no launches"
        try:
            with operators:
                return function(**given)
        finally:
            _Case.before_launch, _Case.without_launches = None, False

    tried = attempt(call, inputs | decoys, asked["timeout_s"])
    if decoys:
        tried.changed = []
    answer, payload = answer_for(tried, asked["maps"])
    return answer | {"operators": dict(operators.ran), "threads": _threads_left(),
                     "files": sorted(set(os.listdir(".")) - files)[:5]}, payload  # noqa: PTH208


def _threads_left() -> int:
    """Threads beside this one. The one with which tqdm watches its progress bars is nobody's work."""
    watching = getattr(sys.modules.get("tqdm._monitor"), "TMonitor", None)
    return sum(type(thread) is not watching for thread in threading.enumerate()) - 1


_MODES = {"candidates": _candidates, "influenced": _influenced, "record": _record, "plain": _call, "no launches": _call,
          "decoys": _call}
