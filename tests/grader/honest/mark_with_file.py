# honest: a mark of an older notebook, which names the file too
# exercise: kernels/hello.py::programs_needed
def programs_needed(N, BLOCK):
    whole, rest = divmod(N, BLOCK)
    return whole + (rest > 0)
