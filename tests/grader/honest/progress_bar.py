# honest: a progress bar, whose library keeps a thread of its own
from tqdm.auto import tqdm

# exercise: programs_needed
def programs_needed(N, BLOCK):
    return -(-N // BLOCK)

# %%
for _ in tqdm(range(3)):
    pass
