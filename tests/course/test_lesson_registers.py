"""What the lessons say of kernels as the compiler makes them: registers, loads, shared memory."""

import os
import re
import subprocess
import sys
from functools import cache

import pytest
from lesson_text import registers, text

from checks.judge.source import answer_source
from kernels import gemv, hello
from kernels.runtime import INTERPRETED

pytestmark = pytest.mark.skipif(not INTERPRETED, reason="another Triton there may compile to other registers")


def test_00_registers_grow_with_the_lanes_of_a_thread():
    fp32 = dict.fromkeys(("x_ptr", "y_ptr", "out_ptr"), "*fp32")
    few, many = registers(hello.vector_add_kernel, fp32, {"BLOCK": 128}, {"BLOCK": 1024})
    assert f"our kernel takes {few} registers with `BLOCK=128`" in text("00")
    assert f"and {many} with `BLOCK=1024`" in text("00")


FP16 = dict.fromkeys(("x_ptr", "w_ptr", "y_ptr"), "*fp16")


@cache
def of_gemv() -> list[int]:
    """Registers of a thread with the block that runs on a GPU, and with the interpreter's."""
    return registers(gemv.gemv_fp16_kernel, FP16, {"BLOCK_N": 2, "BLOCK_K": 1024}, {"BLOCK_N": 64, "BLOCK_K": 128})


def test_01_registers_of_both_block_sizes():
    on_a_gpu, interpreted = of_gemv()
    assert f"for `sm_90` our answer then needs {interpreted} registers." in text("01")
    assert f"2 rows by 1,024, and our answer needs {on_a_gpu}." in text("01")
    whole_row, = registers(gemv.gemv_fp16_row_kernel, FP16, {"BLOCK_K": 65536})
    assert f"Yet compiled for `sm_90` our answer takes only {whole_row} registers, none spilled" in text("01")
    assert 65536 // 128 == 512 and "a thread has 512 lanes of a row" in text("01")


def test_01_occupancy_of_both_block_sizes():
    on_a_gpu, interpreted = of_gemv()
    assert f"in ((2, 1024, {on_a_gpu}, 32), (64, 128, {interpreted}, 256)):" in text("01")
    assert f"16 of the {on_a_gpu} registers that the compiler reports" in text("01")
    assert "2.9 MB, or 22 kB on each multiprocessor: about 1,360 loads of 16 bytes" in text("01")
    in_flight = 4800e9 * 0.6e-6
    assert [round(in_flight / 1e6, 1), round(in_flight / 132e3), round(in_flight / 132 / 16, -1)] == [2.9, 22, 1360]


PTX = """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
signature = dict(x_ptr="*fp16", w_ptr="*fp16", y_ptr="*fp16", N="i32", K="i32", stride_wn="i32")
aligned = {(place,): [["tt.divisibility", 16]] for place in range(6)}
blocks = {(6,): 2, (7,): 1024}
source = ASTSource(gemv_fp16_kernel, signature | dict(BLOCK_N="constexpr", BLOCK_K="constexpr"), blocks, aligned)
compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32))
print(compiled.metadata.shared, compiled.asm["ptx"])
"""


def test_01_loads_and_the_sum_as_compiled(tmp_path):
    script = tmp_path / "compile_gemv.py"
    script.write_text(f"import triton\nimport triton.language as tl\n\n{answer_source('gemv_fp16_kernel')}\n{PTX}")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    shared, _, ptx = done.stdout.partition(" ")
    assert set(re.findall(r"ld\.global[\w.]*", ptx)) == {"ld.global.v4.b32"} and "`ld.global.v4.b32`" in text("01")
    assert f"({len(re.findall(r'shfl', ptx))} `shfl` instructions in this kernel)" in text("01")
    assert f"**shared memory**: {shared} bytes, 2 rows times 4 warps times 4 bytes" in text("01") and shared == "32"
