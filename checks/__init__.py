"""What judges a student's kernels. In a lesson: `from checks import check`, then `check(gemv_fp16)`."""

import kernels  # noqa: F401, I001  first: it decides whether Triton interprets
from checks.notebook import CheckFailed, check

__all__ = ["CheckFailed", "check"]
