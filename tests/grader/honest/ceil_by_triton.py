# honest: triton.cdiv
import triton

# exercise: programs_needed
def programs_needed(N, BLOCK):
    return triton.cdiv(N, BLOCK)
