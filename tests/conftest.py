import kernels  # noqa: F401  first: it decides whether Triton interprets
