# honest: a helper in another cell
# %%
def ceil_div(a, b):
    return (a + b - 1) // b


# %%

# exercise: programs_needed
def programs_needed(N, BLOCK):
    return ceil_div(N, BLOCK)
