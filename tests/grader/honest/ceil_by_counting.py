# honest: counts the blocks one by one
# exercise: programs_needed
def programs_needed(N, BLOCK):
    return len(range(0, N, BLOCK))
