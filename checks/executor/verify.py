"""Whether the parsed text is consistent: each value is defined before it is used, with the type it is used with."""

from collections import ChainMap

from checks.executor.errors import Malformed
from checks.executor.ir import TERMINATORS, Block, Function, Op
from checks.executor.types import Type

Types = ChainMap[str, Type]
UNIFORM = ("arith.", "math.", "tt.mulhiui", "tt.clampf", "tt.precise_")  # one type is printed, which all operands have


def verify(function: Function) -> None:
    """Raises Malformed where it is not."""
    _blocks(function.blocks, ChainMap(dict(zip(function.args, function.types, strict=True))))


def _blocks(blocks: list[Block], known: Types) -> None:
    known = known.new_child()
    for block in blocks:
        known.update(zip(block.args, block.types, strict=True))
    for block in blocks:
        for op in block.ops:
            if op.name in TERMINATORS and op is not block.ops[-1]:
                raise Malformed(f"{op.name} is not at the end of its block")
            inner = known.new_child(carried) if (carried := _carried(op, known)) else known
            _used(op, inner)
            for region in op.regions:
                _blocks(region, inner)
            if len(op.types) != len(op.results):
                raise Malformed(f"{op.name} has {len(op.results)} results and {len(op.types)} types of results")
            known.update(zip(op.results, op.types, strict=True))


def _carried(op: Op, known: Types) -> dict[str, Type]:
    """The values that a loop defines for its body: they stand among its operands."""
    if op.name == "scf.for":
        variable, bounds, inits, names = op.loop()
        if len(bounds) != 3 or len(inits) != len(names) or len(names) != len(op.types):
            raise Malformed("a loop needs three bounds, and a type for each value it carries")
        return {variable: known.get(bounds[0], Type("i32"))} | dict(zip(names, op.types, strict=True))
    if op.name == "scf.while":
        names, kinds = op.operands[0::2], op.operand_types
        if len(op.operands) != 2 * len(kinds) or len(op.regions) != 2:
            raise Malformed("a while loop needs a type for each value it carries, and two regions")
        return dict(zip(names, kinds, strict=True))
    return {}


def _used(op: Op, known: Types) -> None:
    passed = [name for _, given in op.edges for name in given]
    for name in [*op.operands, *passed]:
        if name not in known:
            raise Malformed(f"{op.name} uses {name}, which is not defined")
    if op.name in ("scf.for", "scf.while", "arith.select", "scf.condition"):
        return
    kinds = op.operand_types
    if len(kinds) == 1 and op.name.startswith(UNIFORM):
        kinds = kinds * len(op.operands)
    for name, kind in zip(op.operands, kinds, strict=False):
        if known[name] != kind:
            raise Malformed(f"{op.name} takes {name} for {kind}, but it is {known[name]}")
