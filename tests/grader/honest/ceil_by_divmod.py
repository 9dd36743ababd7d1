# honest: rounding up by divmod
# exercise: programs_needed
def programs_needed(N: int, BLOCK: int) -> int:
    whole, rest = divmod(N, BLOCK)
    return whole + (rest > 0)
