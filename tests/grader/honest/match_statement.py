# honest: a match statement, an assertion, type hints in strings
# exercise: programs_needed
def programs_needed(N: "int", BLOCK: "int") -> "int":
    assert BLOCK > 0, "no block"
    match divmod(N, BLOCK):
        case whole, 0:
            return whole
        case whole, _:
            return whole + 1
