"""What `kernels` launches on GPUs that are not here. Run as a script: a process apart, for here Triton does not interpret.

stdin: JSON, {"gpus": {name: what its driver says}, "calls": {name: [module, function, arguments]}}, with `true` as a
fourth where the call is captured in a CUDA graph. A tensor among the arguments is {"dtype", "shape"} and, where it is not
contiguous, "strides". stdout: {gpu: {call: [launch, ...]}}, or in place of the launches the text of what the call raised.
Tensors are on the meta device: real models' shapes cost nothing.
"""

import importlib
import inspect
import json
import os
import sys
from types import SimpleNamespace

os.environ.pop("TRITON_INTERPRET", None)

import torch  # noqa: E402

torch.cuda.is_available = lambda: True  # before `kernels` asks

import triton  # noqa: E402
from triton.runtime import JITFunction  # noqa: E402


class Gpu:
    """Stands in for torch's and Triton's drivers; `launches` is what ran."""

    def __init__(self, capability, multiprocessors, shared_memory, hip=None, fastest=-1, memory=(2_600_000, 5120)):
        self.launches, self.names, self.timing, self.fastest = [], {}, False, fastest
        major, minor = capability
        torch.version.hip = hip
        torch.cuda.current_device = lambda: 0
        torch.cuda.get_device_capability = lambda *_: (major, minor)
        torch.cuda.get_device_properties = lambda *_: SimpleNamespace(
            major=major, minor=minor, multi_processor_count=multiprocessors, L2_cache_size=50 << 20)
        driver = {"max_shared_mem": shared_memory, "multiprocessor_count": multiprocessors, "mem_clock_rate": memory[0],
                  "mem_bus_width": memory[1], "warpSize": 32, "max_num_regs": 65536, "sm_clock_rate": 1_980_000}
        triton.runtime.driver.set_active(SimpleNamespace(
            utils=SimpleNamespace(get_device_properties=lambda *_: driver), get_current_device=lambda: 0))
        triton.testing.do_bench = self.bench
        JITFunction.run = lambda kernel, *args, grid, warmup, **options: self.launch(kernel, grid, args, options)

    def bench(self, run, **_):
        """The last one that is timed, or the one in place `fastest`, is the fastest."""
        self.timing = True
        run()
        self.timing = False
        timed = sum(launch["timed"] for launch in self.launches)
        return 0.0 if timed - 1 == self.fastest else 1 / timed

    def launch(self, kernel, grid, args, options):
        names = list(inspect.signature(kernel.fn).parameters)
        given = dict(zip(names, args, strict=False))
        given |= {name: options.pop(name) for name in list(options) if name in names}
        assert set(given) == set(names), f"{kernel.fn.__name__} is called with {set(given) ^ set(names)}"
        self.launches.append({"kernel": kernel.fn.__name__, "grid": [*grid, 1][:2], "options": options, "timed": self.timing,
                              "arguments": {name: self.describe(value) for name, value in given.items()}})

    def describe(self, value):
        """A number as it is, a tensor by its name among the arguments, else by its dtype, shape and strides."""
        if isinstance(value, torch.Tensor):
            base = value if value._base is None else value._base
            return self.names.get(id(base)) or f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
        if hasattr(value, "block_shape"):  # a tensor descriptor
            return [self.describe(value.base), *value.block_shape]
        return value

    def call(self, module, function, arguments, capturing=False):
        torch.cuda.is_current_stream_capturing = lambda: capturing
        made = {name: tensor(value) if isinstance(value, dict) else value for name, value in arguments.items()}
        self.launches.clear()
        self.names = {id(value if value._base is None else value._base): name
                      for name, value in made.items() if isinstance(value, torch.Tensor)}
        if "out_dtype" in made:
            made["out_dtype"] = getattr(torch, made["out_dtype"])
        try:
            y = getattr(importlib.import_module(f"kernels.{module}"), function)(**made)
        except (ValueError, RuntimeError, NotImplementedError) as error:
            return f"{type(error).__name__}: {error}"
        shown = [self.describe(t) for t in (y if isinstance(y, tuple) else (y,))]
        return [*self.launches, {"returned": shown}]


def tensor(value: dict) -> torch.Tensor:
    dtype = getattr(torch, value["dtype"])
    if "strides" in value:
        return torch.empty_strided(value["shape"], value["strides"], dtype=dtype, device="meta")
    return torch.empty(value["shape"], dtype=dtype, device="meta")


def on_each(gpus: dict, calls: dict) -> dict:
    """A child for each GPU, for the library keeps what it learned of the one it runs on."""
    found = {}
    for name, says in gpus.items():
        read, write = os.pipe()
        if os.fork() == 0:
            gpu = Gpu(**says)
            with os.fdopen(write, "w") as stream:
                json.dump({call: gpu.call(*what) for call, what in calls.items()}, stream)
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as stream:
            found[name] = json.loads(stream.read() or "null")
        os.wait()
    return found


if __name__ == "__main__":
    importlib.import_module("kernels.hopper_gemm")  # once, before the forks
    asked = json.load(sys.stdin)
    json.dump(on_each(asked["gpus"], asked["calls"]), sys.stdout)
