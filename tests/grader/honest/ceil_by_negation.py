# honest: rounding up by negation
# exercise: kernels/hello.py::programs_needed
def programs_needed(N, BLOCK):
    return -(-N // BLOCK)
