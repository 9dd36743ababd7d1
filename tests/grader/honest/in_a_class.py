# honest: a method of a class that counts its calls
# exercise: programs_needed
class Blocks:
    calls = 0

    def __call__(self, N, BLOCK):
        Blocks.calls += 1
        return -(-N // BLOCK)


blocks = Blocks()


def programs_needed(N, BLOCK):
    return blocks(N, BLOCK)
