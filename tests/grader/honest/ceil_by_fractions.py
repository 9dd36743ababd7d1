# honest: rounded up by exact fractions
# exercise: programs_needed
from fractions import Fraction
from math import ceil


def programs_needed(N, BLOCK):
    return ceil(Fraction(N, BLOCK))
