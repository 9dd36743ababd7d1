# honest: a bitwise operator, walrus and a conditional expression
# exercise: programs_needed
def programs_needed(N, BLOCK):
    return whole + 1 if N - (whole := N // BLOCK) * BLOCK else whole
