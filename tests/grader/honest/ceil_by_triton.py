# honest: triton.cdiv
import triton

# exercise: kernels/hello.py::programs_needed
def programs_needed(N, BLOCK):
    return triton.cdiv(N, BLOCK)
