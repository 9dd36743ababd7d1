"""What often-made slips look like in the source or in Triton's own words, and what to say instead."""

import ast
import difflib
import functools
import re
from collections.abc import Callable, Collection
from typing import Any

from checks.judge.source import Function, source_of

DEEPEST = 300  # levels of a syntax tree


def in_source(function: Function | str) -> str | None:
    """A sentence on a slip in `function` (or its source) that is wrong in every kernel, or None."""
    tree = _tree(function)
    found = (sentence for test, sentence in _SOURCE if isinstance(tree, ast.FunctionDef) and test(tree))
    return next(found, None)


def in_message(function: Function | str, message: str) -> str | None:
    """What the `message` with which `function` failed says in plain words, or None."""
    tree = _tree(function)
    if tree is None:
        return None
    patterns = _KERNEL_MESSAGE + _MESSAGE if isinstance(tree, ast.FunctionDef) and _is_kernel(tree) else _MESSAGE
    said = (sentence for pattern, sentence in patterns if re.search(pattern, message))
    return _unknown_name(tree, message) or next(said, None)


def _unknown_name(tree: ast.stmt, message: str) -> str | None:
    """A sentence on a name that is not defined: the one it is like, or why it is not there yet."""
    unknown = re.search(r"(?:name )?'?(\w+)'? is not defined", message)
    if not unknown:
        return None
    name, stored = unknown[1], ast.Store
    assigned = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, stored)}
    given = {argument.arg for argument in ast.walk(tree) if isinstance(argument, ast.arg)}
    if name in assigned and _of_another_loop(tree, name):
        return f"`{name}` is not defined here: a loop before this one gives it a value. Load or compute it in this one too."
    if name in assigned:
        return (f"`{name}` is not defined here: it is assigned in a loop or under an `if` alone, or further down. Give it a "
                "value before.")
    like = difflib.get_close_matches(name, sorted(assigned | given), 1, 0.5)
    return f"The name `{name}` is not defined" + (f": is `{like[0]}` meant?" if like else ".")


def _of_another_loop(tree: ast.stmt, name: str) -> bool:
    """Whether every value of a name is given in a loop, and a later loop of the same level uses it and gives none."""
    loops = [node for node in ast.iter_child_nodes(tree) if isinstance(node, ast.For)]
    found = [{type(part.ctx) for part in ast.walk(loop) if isinstance(part, ast.Name) and part.id == name} for loop in loops]
    return {ast.Load} in found and any(ast.Store in kinds for kinds in found)


def definition(function: Function | str) -> ast.FunctionDef | None:
    """The function as Python parses it, where its source is known."""
    tree = _tree(function)
    return tree if isinstance(tree, ast.FunctionDef) else None


def slow_to_compile(function: Function | str) -> str | None:
    """A sentence on what makes the compiler slow, or None."""
    tree = _tree(function)
    if not isinstance(tree, ast.FunctionDef) or not _is_kernel(tree) or not any(map(_has_three_axes, _nodes(tree))):
        return None
    return ("A block with three axes holds every product of a step at once, far more numbers than a program has registers: "
            "`tl.dot(a, b, acc)` multiplies two blocks and adds up, on the tensor cores.")


def _has_three_axes(node: ast.AST) -> bool:
    """`x[:, None, :]`."""
    return isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple) and len(node.slice.elts) > 2


def without_padding(function: Function | str) -> str | None:
    """What is missing in the place of `other=` where a load goes by a block pointer, which takes none; None without one."""
    tree = definition(function)
    for call in (node for node in _nodes(tree) if isinstance(node, ast.Call)) if tree else ():
        named = {keyword.arg for keyword in call.keywords}
        if getattr(call.func, "attr", "") == "load" and "boundary_check" in named and "padding_option" not in named:
            return ('`padding_option="zero"` is missing. What `boundary_check` leaves out holds anything at all unless the '
                    "load says so.")
    return None


def unused_stride(function: Function | str, needed: Collection[str]) -> str | None:
    """The first argument `stride_...` among those `needed` that a kernel (or its source) never uses."""
    tree = _tree(function)
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} if tree else set()
    strides = [a.arg for a in tree.args.args if a.arg.startswith("stride_")] if isinstance(tree, ast.FunctionDef) else []
    return next((name for name in strides if name in needed and name not in used), None)


def _tree(function: Function | str) -> ast.stmt | None:
    """Its first statement; None where there is none, or one nested beyond what is read here by recursion."""
    try:
        return _parsed(function if isinstance(function, str) else source_of(function))
    except (OSError, SyntaxError, ValueError, IndexError, MemoryError, RecursionError):
        return None


@functools.lru_cache(maxsize=64)
def _parsed(source: str) -> ast.stmt | None:
    tree = ast.parse(source).body[0]
    level: list[ast.AST] = [tree]
    for _ in range(DEEPEST):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    return None if level else tree


def _is_kernel(tree: ast.FunctionDef) -> bool:
    return any(argument.arg.endswith("_ptr") for argument in tree.args.args)


def _anywhere(kind: type[ast.AST], test: Callable[[Any], bool]) -> Callable[[ast.FunctionDef], bool]:
    return lambda tree: _is_kernel(tree) and any(isinstance(node, kind) and test(node) for node in _nodes(tree))


@functools.lru_cache(maxsize=1)
def _nodes(tree: ast.FunctionDef) -> list[ast.AST]:
    return list(ast.walk(tree))


def _undecorated(tree: ast.FunctionDef) -> bool:
    return _is_kernel(tree) and not tree.decorator_list


def _of_offsets(node: ast.AST) -> bool:
    return any(_name(part).startswith(("offs", "mask")) for part in ast.walk(node))


def _joined(node: ast.AST) -> bool:
    """`a & b`, but not the arithmetic of `a & 15`."""
    return (isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd | ast.BitOr)
            and not any(isinstance(side, ast.Constant) for side in (node.left, node.right)))


def _larger_of_two(node: ast.Call) -> bool:
    """`tl.max(a, b)` of two blocks."""
    axis = node.args[1] if len(node.args) > 1 else None
    return getattr(node.func, "attr", "") in ("max", "min") and isinstance(axis, ast.BinOp | ast.Call | ast.Subscript)


def _moves_by_one(node: ast.For) -> bool:
    """A loop over `range(0, K)` in whose body a block starts at each k."""
    if not (isinstance(node.iter, ast.Call) and _name(node.iter.func) == "range" and len(node.iter.args) < 3
            and _name(node.iter.args[-1])):
        return False
    sums = (part for part in ast.walk(node) if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Add))
    return any(_name(part.left) == _name(node.target) and "tl.arange" in ast.unparse(part.right) for part in sums)


def _name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else ""


_ONE_PATH = "An `if` decides for a whole program, not lane by lane: give each load and store a `mask=`."

_SOURCE = [
    (_undecorated, "The line `@triton.jit` above the kernel is missing."),
    (_anywhere(ast.Compare, lambda node: any(map(_joined, [node.left, *node.comparators]))),
     "`&` binds more tightly than `<` and `>`: put each comparison in parentheses, `mask & (offs > 0)`."),
    (_anywhere(ast.Compare, lambda node: len(node.ops) > 1),
     "A chain such as `0 < offs < N` keeps only one of the two blocks: write `(offs > 0) & (offs < N)`."),
    (_anywhere(ast.If, lambda node: _of_offsets(node.test)),
     _ONE_PATH),
    (_anywhere(ast.For, _moves_by_one),
     "The loop moves on by one element, and each step takes a whole block: give `range` the block's size as its step."),
    (_anywhere(ast.Attribute, lambda node: _name(node.value) in ("torch", "np", "numpy")),
     "torch and NumPy do not work inside a kernel: use Triton's own, such as tl.float32, tl.zeros, tl.sum."),
    (_anywhere(ast.Subscript, lambda node: _name(node.value).endswith("_ptr")),
     "A pointer cannot be indexed: read with `tl.load(x_ptr + offsets)`, write with `tl.store(y_ptr + offsets, value)`."),
    (_anywhere(ast.Call, lambda node: getattr(node.func, "attr", "") in ("float", "half", "int")),
     "Blocks have no `.float()` or `.half()`: convert with `.to(tl.float32)` or `.to(tl.float16)`."),
    (_anywhere(ast.Call, lambda node: getattr(node.func, "attr", _name(node.func)) in ("round", "rint")),
     "There is no rounding that works everywhere: add 12582912.0 to an FP32 number and subtract it again."),
    (_anywhere(ast.Call, _larger_of_two), "`tl.max(block, axis=0)` takes one block and an axis; the larger of two blocks is "
     "`tl.maximum(a, b)`."),
    (_anywhere(ast.BinOp, lambda node: isinstance(node.op, ast.MatMult)),
     "Blocks have no `@`: the matrix product of two blocks is `tl.dot(a, b)`."),
    (_anywhere(ast.Call, lambda node: _name(node.func) in ("sum", "max", "min")),
     "Python's sum, max and min do not work on blocks: use `tl.sum`, `tl.max` or `tl.min`."),
]

_KERNEL_MESSAGE = [
    (r"Boolean value of Tensor with more than one value", _ONE_PATH),
    (r"'range' object has no attribute",
     "`range` counts the steps of a loop; the block 0, 1, 2, ... is `tl.arange(0, BLOCK)`."),
]

_MESSAGE = [
    (r"f-string", "A kernel is compiled: a value that it computes cannot be put into an f-string. Use `tl.device_print`."),
    (r"unsupported AST node type: Break|unsupported AST node type: Continue",
     "Triton compiles no `break` and no `continue`: let `range` end the loop, and turn lanes off with a mask."),
    (r"unsupported AST node type: (JoinedStr|Try|With|ListComp|DictComp|Lambda|Raise|Dict|Set)\b",
     "A kernel is compiled, and knows only a part of Python: no f-strings, lists of values, `try`, `with` or `lambda`."),
    (r"unsupported AST node type", "A kernel is compiled, and knows only a part of Python."),
    (r"[Rr]eturn.* (inside|in) .*(loop|for|while|if)",
     "A kernel cannot return from inside a loop: turn lanes off with a mask."),
    (r"accumulator shape is incompatible",
     "The sums do not have the shape of the product: `tl.dot(a, b, acc)` with a (A, B) and b (B, C) wants acc (A, C)."),
    (r"arange\(\) missing", "`tl.arange` takes a start and an end: tl.arange(0, BLOCK)."),
    (r"unexpected type fp(16|32)[^\n]*\n +at: .*//",
     "`//` divides whole numbers and rounds down: fractions are divided with `/`."),
    (r"unexpected type fp(16|32)[^\n]*\n +at: .*[&|^]|unexpected type fp(16|32)[^\n]*\n +at: .*<<",
     "`&`, `|` and shifts work on whole numbers and masks, not on fractions."),
    (r"[Oo]nly (one|1)[- ]element tensors? can be converted|only length-1 arrays|can be converted to Python scalars",
     "Functions of `math`, `float()` and `int()` take a single number. For a tensor use torch's, such as torch.log10."),
    (r"Boolean value of Tensor with more than one value",
     "`and`, `or`, `not` and `if` want one truth value, and this tensor has many: join tensors with `&`, `|` and `~`, or "
     "ask `.all()` or `.any()`."),
    (r"size of tensor a \(\d+\) must match|shape mismatch|shapes? .*cannot be multiplied|The shape of the mask",
     "Two tensors whose shapes do not fit meet in this line. `v[:, None]` makes a column of a vector, `v[None, :]` a row; "
     "`dim=0` runs down the columns, `dim=1` along the rows; `.T` turns a matrix."),
    (r"shape '[^']*' is invalid for input of size",
     "A reshape keeps the number of elements: the sizes asked for multiply to another number than there are."),
    (r"(must be|expected) .*, got ",
     "A function is called with an argument that does not fit: look at its shape and dtype, and at the order of the "
     "arguments."),
    (r"'float' object cannot be interpreted as an integer",
     "`range` and indices want whole numbers, and `/` gives a fraction: divide with `//`, or leave the division out."),
    (r"is not callable", "Something is called that is no function: is a `*` missing before a parenthesis?"),
    (r"[Dd]ivision by zero|ZeroDivisionError", "Something is divided by 0: what should come out in this case?"),
    (r"equal reduction dimensions",
     "`tl.dot` takes blocks (A, K) and (K, B): does one of the two need a `.T`, or has one a `.T` too many?"),
    (r"Logical operators 'and' and 'or'",
     "`and` and `or` do not join blocks lane by lane: use `&` and `|`, with each comparison in parentheses."),
    (r"must have equal ranks",
     "`tl.dot` takes blocks with two axes. For a row and a vector, multiply lane by lane and add up with `tl.sum`."),
    (r"make_shape_compatible|[Ii]ncompatible (shapes|dimensions)|could not be broadcast|cannot broadcast",
     "Two blocks whose shapes do not fit meet here. `a[:, None]` makes a column and `a[None, :]` a row; "
     "`tl.sum(block, axis=1)` sums along each row."),
    (r"Value argument cannot be block type",
     "A whole block is stored at one address: is a `tl.sum` missing before it, or a `tl.max`, or the offsets in the "
     "address?"),
    (r"Mask argument cannot be block type", "The mask is a block and the address is a single one: add the offsets to it."),
    (r"axis \d out of bounds|invalid axis \d", "A block with one dimension has one axis only: axis 0."),
    (r"cannot add pointers together", "A pointer is an address, not a value: read the values first, with `tl.load`."),
    (r"Unsupported ptr type", "The address comes first: `tl.load(address)`, `tl.store(address, value)`."),
    (r"arguments must be of type tl\.constexpr|arange's arguments must be",
     "`tl.arange` takes numbers known at compile time, from 0 to the block size (such as BLOCK_K, a power of two): add to "
     "it what is known later, and use a mask."),
    (r"arange's range must be a power of 2",
     "The length of `tl.arange` must be a power of two: use the block size and a mask."),
    (r"non-?constexpr|global variable", "It uses a name that is not one of its arguments. Numbers that a kernel needs "
     "are its arguments, or written out in it."),
    (r"'int' object is not iterable",
     "Something here is a number or a pointer where a block was meant: is a `tl.load` missing?"),
    (r"Loop-carried variable", "What a loop changes must keep its type and shape: let it start with those that the loop "
     "gives it. `tl.dot` gives tl.float32."),
    (r"AssertionError:? *\n +at: .*tl\.dot",
     "`tl.dot` wants `acc` in the type that it adds up in: tl.int32 for INT8 blocks, with `out_dtype=tl.int32`, and "
     "tl.float32 for FP16 blocks."),
    (r"Expected dtype \['fp32'", "This works in FP32 only: turn what you load into it first, with `.to(tl.float32)`."),
    (r"'NoneType' object has no attribute 'type'",
     "An address here is None, as `bias_ptr` is for a layer without bias: load only under `if bias_ptr is not None:`."),
    (r"NoneType", "A value here is None: is a `return` missing?"),
]


