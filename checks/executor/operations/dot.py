"""Matrix products."""

import numpy as np

from checks.executor.formats import rounded, to_tf32
from checks.executor.ir import Op
from checks.executor.operations.table import Array, Function, pure, spread


@pure("tt.dot")
def dot(op: Op) -> Function:
    """One batched `@` over programs; FP32 operands are cut to TF32, as an H200 does, unless the text asks for more.

    Of integers all sums are exact: in float32 up to 2**24, in float64 up to 2**53.
    """
    a_type, b_type = op.operand_types[:2]
    elem = op.type.elem
    whole = a_type.elem[0] == "i"
    exact = whole and a_type.shape[-1] * 2 ** (2 * (8 * a_type.itemsize - 1)) <= 1 << 24
    wide: type[np.float64 | np.float32] = np.float64 if elem == "f64" or whole and not exact else np.float32
    tf32 = a_type.elem == "f32" and op.words.endswith("inputPrecision = tf32")

    def product(a: Array, b: Array, c: Array) -> Array:
        a, b = (spread(x, kind.shape).astype(wide, copy=False) for x, kind in ((a, a_type), (b, b_type)))
        if tf32:
            a, b = to_tf32(a), to_tf32(b)
        ab = np.matmul(a, b)
        return ab.astype(op.type.dtype) + c if whole else rounded(ab + c, elem)

    return product
