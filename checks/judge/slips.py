"""Slips that show in a function's source beside its arguments: a stride of another tensor, an argument never used.

They are looked for only after a result was wrong, for some of them are right in a program that means something else.
"""

import ast
import functools
import re
from collections.abc import Iterator, Sequence

_ACCESSES = ("load", "store", "atomic_add")
_PURE_IN_KERNELS = ("dot", "load", "sum", "max", "min", "maximum", "minimum", "where", "abs", "zeros", "full", "exp", "sqrt")
_PURE = ("to", "abs", "round", "clamp", "float", "half", "double", "int", "bool", "reshape", "sum", "mean", "sqrt", "square",
         "max", "min", "amax", "t", "transpose", "contiguous", "masked_fill")


def find_certain_slip(function: ast.FunctionDef, answer: ast.FunctionDef) -> str | None:
    """A sentence on what is wrong in any function, or None: such as a value that is lost."""
    for test in (_changed_arguments, _no_result, _lost_values, _returns_in_a_loop, _returned_errors, _turned,
                 _inputs_written):
        found = next(test(function, answer), None)
        if found is not None:
            return found
    return None


def find_slip(function: ast.FunctionDef, answer: ast.FunctionDef) -> str | None:
    """A sentence on the first slip in `function`, whose exercise has `answer`, or None."""
    for test in (_foreign_strides, _steps, _moved_twice, _still, _other_axis, _masks, _axes, _single_stores):
        found = next(test(function, answer), None)
        if found is not None:
            return found
    return None


def find_unused(function: ast.FunctionDef, answer: ast.FunctionDef) -> str | None:
    """A sentence on the first argument or value that is never used: it may or may not be the mistake."""
    return next(_unused(function, answer), None)


def find_other_arguments(function: ast.FunctionDef, answer: ast.FunctionDef) -> str | None:
    """A sentence on arguments that are more or fewer than those given; a wrapper of the student's own may call it so."""
    mine, theirs = _arguments(function), _arguments(answer)
    if len(mine) == len(theirs):
        return None
    return f"The function takes other arguments than those given, which are ({', '.join(theirs)}): keep the given lines."


def _changed_arguments(function: ast.FunctionDef, answer: ast.FunctionDef) -> Iterator[str]:
    mine, theirs = _arguments(function), _arguments(answer)
    if mine != theirs and sorted(mine) == sorted(theirs):
        yield f"The arguments stand in another order than ({', '.join(theirs)}), in which they come: keep the given lines."
    given = {argument.arg: argument.annotation for argument in function.args.args}
    for argument in answer.args.args:
        wanted, kept = argument.annotation, given.get(argument.arg)
        if wanted and "constexpr" in ast.unparse(wanted) and argument.arg in given and not (
                kept and "constexpr" in ast.unparse(kept)):
            yield (f"The argument `{argument.arg}` has lost its `: tl.constexpr`: a block's size must be known when the "
                   "kernel is compiled.")


def _no_result(function: ast.FunctionDef, answer: ast.FunctionDef) -> Iterator[str]:
    """Nothing returned where a value is wanted, or a value where a kernel stores it."""
    mine, theirs = ([node for node in ast.walk(tree) if isinstance(node, ast.Return) and node.value is not None]
                    for tree in (function, answer))
    if theirs and not mine and not any(isinstance(node, ast.Raise) for node in function.body):
        printed = any(isinstance(node, ast.Call) and ast.unparse(node.func) == "print" for node in ast.walk(function))
        yield ("The result is printed, and nothing is returned: `return` hands it back." if printed else
               "Nothing is returned. Is a `return` missing? The function hands back its result with it.")
    pairs = [node.value for node in theirs if isinstance(node.value, ast.Tuple)]
    for node in mine if pairs and len(pairs) == len(theirs) else ():
        if isinstance(node.value, ast.Name | ast.BinOp | ast.Constant):
            yield (f"`{ast.unparse(node)}` gives back one value, and {len(pairs[0].elts)} are wanted, as in "
                   f"`return {', '.join('...' for _ in pairs[0].elts)}`.")
    if mine and not theirs:
        yield f"A kernel returns nothing, and `{ast.unparse(mine[0])}` is lost: write with `tl.store`."


def _inputs_written(function: ast.FunctionDef, answer: ast.FunctionDef) -> Iterator[str]:
    mine, theirs = ({pointer for call, pointer, _ in _flow(tree).accesses() if ast.unparse(call.func) != "tl.load"}
                    for tree in (function, answer))
    outputs = ", ".join(f"`{pointer[:-4]}`" for pointer in sorted(theirs))
    inputs = {argument.arg for argument in answer.args.args} - theirs
    for pointer in sorted(mine & inputs):
        yield f"`{pointer[:-4]}` is an input, and it is stored to: the result belongs in {outputs}."


def _lost_values(function: ast.FunctionDef, answer: ast.FunctionDef) -> Iterator[str]:
    for node in ast.walk(function):
        if not isinstance(node, ast.Expr) or isinstance(node.value, ast.Constant | ast.Yield):
            continue
        value, text = node.value, ast.unparse(node.value)
        if isinstance(value, ast.Name | ast.Attribute):
            yield f"The line `{text}` does nothing: a call needs parentheses, `{text}()`."
        elif isinstance(value, ast.Compare):
            yield f"The line `{text}` compares and keeps nothing: `=` assigns."
        elif not isinstance(value, ast.Call) or _is_pure(value.func):
            yield f"The line `{text}` computes a value and drops it: assign it to a name."


def _is_pure(function: ast.expr) -> bool:
    """Whether a call of it does nothing but give back a value."""
    if not isinstance(function, ast.Attribute):
        return False
    of = ast.unparse(function.value)
    return function.attr in (_PURE_IN_KERNELS if of == "tl" else _PURE) and of not in ("torch", "math")


def _returns_in_a_loop(function: ast.FunctionDef, answer: ast.FunctionDef) -> Iterator[str]:
    for loop in ast.walk(function):
        if isinstance(loop, ast.For | ast.While) and any(isinstance(node, ast.Return) for node in loop.body):
            yield "A `return` stands inside the loop and ends it after the first step: move it behind the loop."


def _returned_errors(function: ast.FunctionDef, answer: ast.FunctionDef) -> Iterator[str]:
    for node in ast.walk(function):
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Call):
            name = ast.unparse(node.value.func)
            if name.endswith(("Error", "Exception")):
                yield f"An error is returned, and the caller takes it for a result: `raise {name}(...)` stops it."


def _arguments(function: ast.FunctionDef) -> list[str]:
    given = function.args
    return [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)]


@functools.lru_cache(maxsize=64)
def _flow(function: ast.FunctionDef) -> "_Flow":
    return _Flow(function)


class _Flow:
    """Which names a kernel's addresses are made of, through its local variables."""

    def __init__(self, function: ast.FunctionDef):
        self.function = function
        self.made: dict[str, list[ast.expr]] = {}
        for node in ast.walk(function):
            if isinstance(node, ast.Assign | ast.AugAssign):
                for name in _targets(node):
                    self.made.setdefault(name, []).append(node.value)

    def accesses(self, within: ast.AST | None = None) -> Sequence[tuple[ast.Call, str, set[str]]]:
        """Each load and store, with its one pointer and the names in its address."""
        return list(self._accesses(within)) if within else self._all

    @functools.cached_property
    def _all(self) -> Sequence[tuple[ast.Call, str, set[str]]]:
        return list(self._accesses(self.function))

    def _accesses(self, within: ast.AST) -> Iterator[tuple[ast.Call, str, set[str]]]:
        for node in ast.walk(within):
            if (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _ACCESSES
                    and ast.unparse(node.func.value) == "tl" and node.args):
                names = self.names(node.args[0])
                pointers = [name for name in names if name.endswith("_ptr")]
                if len(pointers) == 1:
                    yield node, pointers[0], names

    def names(self, node: ast.AST, seen: frozenset[str] = frozenset()) -> set[str]:
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "tl.load":
            return set()  # a value that was read, no part of the address
        if isinstance(node, ast.Name):
            found = {node.id}
            if node.id not in seen:
                for value in self.made.get(node.id, []):
                    found |= self.names(value, seen | {node.id})
            return found
        return set().union(*(self.names(child, seen) for child in ast.iter_child_nodes(node)))

    def strides_along(self, node: ast.AST, block: str) -> Iterator[str | None]:
        """The stride with which an address counts lanes of `block`, None where it has none."""
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            yield from self.strides_along(node.left, block)
            yield from self.strides_along(node.right, block)
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            sides = (node.left, node.right), (node.right, node.left)
            for lanes, stride in sides:
                if self._counts(lanes, block) and isinstance(stride, ast.Name) and stride.id.startswith("stride_"):
                    yield stride.id
        elif isinstance(node, ast.Name) and len(self.made.get(node.id, ())) == 1 and not self._counts(node, block):
            yield from self.strides_along(self.made[node.id][0], block)
        elif self._counts(node, block):
            yield None

    def _counts(self, node: ast.AST, block: str) -> bool:
        """Whether it is the lanes of one block: `rk`, `offs_k[None, :]`, `tl.arange(0, BLOCK_K)`."""
        names = self.names(node)
        return block in names and not any(name.endswith("_ptr") or name.startswith("stride_") for name in names)

    def turns(self, node: ast.AST, seen: frozenset[str] = frozenset()) -> dict[str, set[str]]:
        """How offsets and masks are made columns or rows in an expression: {"n": {"[:, None]"}}."""
        found: dict[str, set[str]] = {}
        if isinstance(node, ast.Subscript):
            letters = {name[5:] for name in self.names(node.value) if re.fullmatch(r"(offs|mask)_[a-z]", name)}
            if len(letters) == 1:
                found.setdefault(letters.pop(), set()).add(f"[{ast.unparse(node.slice).strip('()')}]")
            return found
        below = [node] if not isinstance(node, ast.Name) or node.id in seen else self.made.get(node.id, [])
        for part in (child for value in below for child in ([value] if value is not node else ast.iter_child_nodes(node))):
            after = seen | ({node.id} if isinstance(node, ast.Name) else set())
            for size, turns in self.turns(part, after).items():
                found.setdefault(size, set()).update(turns)
        return found


def _foreign_strides(function: ast.FunctionDef, answer: ast.FunctionDef) -> Iterator[str]:
    strides = [name for name in _arguments(function) if name.startswith("stride_")]
    needed = {(pointer, name) for _, pointer, names in _flow(answer).accesses() for name in names}
    for _, pointer, names in _flow(function).accesses():
        stem = pointer.removesuffix("_ptr")
        own = [name for name in strides
               if (pointer, name) in needed or (name[7:8] == stem[0] and "scale" not in stem)]
        for name in strides:
            if name in names and name not in own and (own or not stem.startswith("partial")):
                theirs = next((p[:-4] for p in _arguments(function) if p.endswith("_ptr") and p[0] == name[7]), name[7:-1])
                better = (f"`{stem}` has {' and '.join(f'`{other}`' for other in own)}" if own else
                          f"the elements of `{stem}` lie side by side and need no stride")
                whose = f", a stride of `{theirs}`" if theirs else ""
                yield f"The address of `{stem}` is made with `{name}`{whose}: {better}."


def _steps(function: ast.FunctionDef, answer: ast.FunctionDef) -> Iterator[str]:
    """Pointers that a loop advances by another stride than that of the axis along which they move."""
    flow = _flow(function)
    for node in ast.walk(function):
        if not (isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name) and isinstance(node.op, ast.Add)):
            continue
        step = flow.names(node.value)
        block = next((name for name in step if name.startswith("BLOCK_")), "")
        pointers = [name for name in flow.names(node.target) if name.endswith("_ptr")]
        if not block or len(pointers) != 1 or len(step) > 2:
            continue
        made = [value for value in flow.made[node.target.id] if pointers[0] in flow.names(value)]
        apart = {stride for value in made for stride in flow.strides_along(value, block)}
        taken = next((name for name in step if name.startswith("stride_")), None)
        if len(apart) != 1 or taken in apart:
            continue
        stride = apart.pop()
        how = f"`{stride}` apart: add `{block} * {stride}`" if stride else f"side by side: add `{block}`"
        yield (f"`{node.target.id}` moves on by `{ast.unparse(node.value)}` elements, but its neighbours along {block[6:]} "
               f"{'are' if stride else 'lie'} {how}.")


def _moved_twice(function: ast.FunctionDef, answer: ast.FunctionDef) -> Iterator[str]:
    """Pointers that a loop advances, beside offsets that move with its variable too."""
    flow = _flow(function)
    for loop in ast.walk(function):
        if not (isinstance(loop, ast.For) and isinstance(loop.target, ast.Name)):
            continue
        step = loop.target.id
        advanced = {node.target.id: ast.unparse(node) for node in loop.body if isinstance(node, ast.AugAssign)
                    and isinstance(node.target, ast.Name) and isinstance(node.op, ast.Add)}
        for call, _, _ in flow.accesses(loop):
            direct = {part.id for part in ast.walk(call.args[0]) if isinstance(part, ast.Name)}
            for name in sorted(direct & set(advanced)):
                others = [other for other in sorted(direct - {name}) if step in flow.names(ast.Name(other))]
                if others and any(pointer.endswith("_ptr") for pointer in flow.names(ast.Name(name))):
                    yield (f"`{name}` moves on in each step, `{advanced[name]}`, and `{others[0]}` moves with `{step}` as "
                           "well: one of the two is enough.")


def _still(function: ast.FunctionDef, answer: ast.FunctionDef) -> Iterator[str]:
    """Loads and stores in a loop whose address is the same in each step, and moves in the answer's."""
    moves = {(kind, pointer) for kind, pointer, moving, _ in _in_loops(answer) if moving}
    for kind, pointer, moving, step in _in_loops(function):
        if (kind, pointer) in moves and not moving:
            yield (f"Each step of the loop {kind} the same part of `{pointer[:-4]}`: nothing in its address moves with "
                   f"`{step}`.")


def _in_loops(function: ast.FunctionDef) -> Iterator[tuple[str, str, bool, str]]:
    """Of each access in a loop what it does, its pointer, whether its address moves, and the loop's variable."""
    flow = _flow(function)
    for loop in ast.walk(function):
        if not (isinstance(loop, ast.For) and isinstance(loop.target, ast.Name)):
            continue
        moving = {loop.target.id} | {name for node in ast.walk(loop) if isinstance(node, ast.Assign | ast.AugAssign)
                                     for name in _targets(node) if name in flow.names(node.value) or
                                     isinstance(node, ast.AugAssign)}
        for call, pointer, names in flow.accesses(loop):
            kind = "reads" if ast.unparse(call.func) == "tl.load" else "writes"
            yield kind, pointer, bool(names & moving), loop.target.id


def _targets(node: ast.Assign | ast.AugAssign) -> set[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return {part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)}


def _other_axis(function: ast.FunctionDef, answer: ast.FunctionDef) -> Iterator[str]:
    """Vectors whose address counts along another axis than the answer's does."""
    wanted: dict[str, set[str]] = {}
    for _, pointer, names in _flow(answer).accesses():
        wanted.setdefault(pointer, set()).update(_offsets(names))
    for _, pointer, names in _flow(function).accesses():
        mine, theirs = _offsets(names), wanted.get(pointer, set())
        if len(theirs) == len(mine) == 1 and mine != theirs and not any(name.startswith("stride_") for name in names):
            (here,), (there,) = mine, theirs
            yield (f"`{pointer[:-4]}` is addressed by `{here}`, and it has an element for each {there[5:]}: its address and "
                   f"its mask go by `{there}`.")


def _offsets(names: set[str]) -> set[str]:
    return {name for name in names if re.fullmatch(r"offs_[a-z]", name)}


def _masks(function: ast.FunctionDef, answer: ast.FunctionDef) -> Iterator[str]:
    arguments = _arguments(function)
    if not any(name.endswith("_ptr") for name in arguments):
        return
    for node in ast.walk(function):
        if not (isinstance(node, ast.Compare) and len(node.ops) == 1):
            continue
        left, limit = ast.unparse(node.left), ast.unparse(node.comparators[0])
        place = re.match(r"offs(?:_([a-z]))?\b", left)
        if not place or limit not in arguments:
            continue
        size = (place[1] or "n").upper()
        if limit.startswith("BLOCK"):
            yield f"`{left} < {limit}` asks whether a lane is in the block; the mask is about the size, `{left} < {size}`."
        elif limit != size and size in arguments and len(limit) == 1:
            yield f"`{place[0]}` is compared with `{limit}`: it counts along {size}, so the mask is `{place[0]} < {size}`."
        elif isinstance(node.ops[0], ast.LtE) and "+" not in left:
            yield (f"`{left} <= {limit}` lets one element too many through: the last is number {limit} - 1, so the mask is "
                   f"`{left} < {limit}`.")


def _turned(function: ast.FunctionDef, answer: ast.FunctionDef) -> Iterator[str]:
    """Masks that run along the other axis of a block than the address does."""
    flow = _flow(function)
    for access, pointer, _ in flow.accesses():
        masks = [keyword.value for keyword in access.keywords if keyword.arg == "mask"]
        place = flow.turns(access.args[0])
        for size, turns in flow.turns(masks[0]).items() if masks else ():
            if size in place and not turns & place[size]:
                here, there = turns.pop(), place[size].pop()
                yield (f"The mask of `{pointer[:-4]}` is turned the other way than its address: offs_{size}{there}, but "
                       f"mask_{size}{here}.")


def _axes(function: ast.FunctionDef, answer: ast.FunctionDef) -> Iterator[str]:
    mine, theirs = (set(re.findall(r"program_id\((?:axis=)?(\d)\)", ast.unparse(tree))) for tree in (function, answer))
    for axis in sorted(theirs - mine):
        yield f"The kernel never asks for `tl.program_id({axis})`, the program's place along axis {axis} of the grid."
    for axis in sorted(mine - theirs):
        yield f"The grid has no axis {axis}: `tl.program_id({axis})` is 0 in every program."


def _single_stores(function: ast.FunctionDef, answer: ast.FunctionDef) -> Iterator[str]:
    """One number stored, and not in a loop, where the answer stores a block."""
    mine, theirs = list(_stores(function)), list(_stores(answer))
    wanted = {pointer for pointer, block, _ in theirs if block} - {pointer for pointer, block, _ in theirs if not block}
    looped = {pointer for pointer, _, in_loop in mine if in_loop}
    for pointer, block, _ in mine:
        if pointer in wanted - looped and not block:
            yield (f"Each program stores one number to `{pointer[:-4]}`, and a block of them is its part: sum along one "
                   "axis alone, and put the block's offsets into the address and the mask.")


def _stores(function: ast.FunctionDef) -> Iterator[tuple[str, bool, bool]]:
    """Of each store its pointer, whether its address is a block, and whether it stands in a loop."""
    flow = _flow(function)
    loops = [node for node in ast.walk(function) if isinstance(node, ast.For | ast.While)]
    inside = {id(node) for loop in loops for node in ast.walk(loop)}
    for call, pointer, names in flow.accesses():
        if ast.unparse(call.func) == "tl.store":
            made = [call.args[0], *(value for name in names for value in flow.made.get(name, ()))]
            yield pointer, any("arange" in ast.unparse(value) for value in made), id(call) in inside


def _unused(function: ast.FunctionDef, answer: ast.FunctionDef) -> Iterator[str]:
    used, wanted = ({node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} for tree in (function, answer))
    for name in _arguments(function):
        if name not in used and name in wanted:
            yield f"The argument `{name}` is never used."
    read = {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name not in read and "program_id" in ast.unparse(node.value):
                yield f"`{name}`, the number of the program, is never used: every program does the same work."
            elif name not in read and not name.startswith("_"):
                yield f"`{name}` is computed and then never used."
