# honest: rounding up by divmod
# exercise: kernels/hello.py::programs_needed
def programs_needed(N: int, BLOCK: int) -> int:
    whole, rest = divmod(N, BLOCK)
    return whole + (rest > 0)
