# honest: a number of NumPy's
# exercise: programs_needed
import numpy as np


def programs_needed(N, BLOCK):
    return int(np.ceil(np.float64(N) / np.float64(BLOCK)))
