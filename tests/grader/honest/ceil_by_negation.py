# honest: rounding up by negation
# exercise: programs_needed
def programs_needed(N, BLOCK):
    return -(-N // BLOCK)
