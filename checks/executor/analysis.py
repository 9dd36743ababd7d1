"""What the text tells before anything runs: when values die, which addresses lie side by side, what may be written."""

import collections

from checks.executor.errors import Malformed
from checks.executor.ir import Block, Function, Op, all_ops


def mark_dead(blocks: list[Block]) -> set[str]:
    """Fill `Op.dead`; returns every name read in `blocks`."""
    everywhere: set[str] = set()
    for block in blocks:
        last: dict[str, Op] = {}
        here = set(block.args)
        for op in block.ops:
            read = set(op.operands).union(*(given for _, given in op.edges))
            for region in op.regions:
                read |= mark_dead(region)
            here |= set(op.results)
            last.update(dict.fromkeys(read | set(op.results), op))
            everywhere |= read
        if len(blocks) == 1:
            ends = collections.defaultdict(list)
            for name, op in last.items():
                if name in here:
                    ends[op].append(name)
            for op, names in ends.items():
                op.dead = tuple(names)
    return everywhere


def peak(blocks: list[Block]) -> int:
    """Elements of all values of one program that are alive at a time, at most."""
    sizes: dict[str, int] = {}
    alive = most = 0
    for block in blocks:
        for op in block.ops:
            inner = max([peak(region) for region in op.regions], default=0)
            for name, kind in zip(op.results, op.types, strict=False):
                alive += kind.size - sizes.get(name, 0)
                sizes[name] = kind.size
            most = max(most, alive + inner)
            alive -= sum(sizes.pop(name, 0) for name in op.dead)
    return most


def roots_of_stores(function: Function, pointers: set[str]) -> set[str]:
    """The arguments among `pointers` that may be written: those that flow into the pointer of a store or an atomic."""
    roots, before = {name: {name} for name in pointers}, dict[str, set[str]]()
    written: set[str] = set()
    while roots != before:  # again, for what comes round in loops
        before = dict(roots)
        for op in all_ops(function.blocks):
            if op.name in ("tt.store", "tt.atomic_rmw", "tt.atomic_cas"):
                written |= roots.get(op.operands[0], set()) or pointers
                continue
            if op.name == "scf.for":
                _, _, inits, names = op.loop()
                for name, init, out in zip(names, inits, op.regions[0][0].ops[-1].operands, strict=True):
                    roots[name] = roots.get(init, set()) | roots.get(out, set())
            if not any(kind.elem == "ptr" for kind in op.types):
                continue
            found = set().union(*(roots.get(name, set()) for name in op.operands))
            for region in op.regions:
                for block in region:
                    found |= set().union(*(roots.get(name, set()) for name in block.ops[-1].operands))
            for name in op.results:
                roots[name] = roots.get(name, set()) | found
    return written


def mark_steps(function: Function) -> None:
    """Fill `Op.steps` of loads and stores: by how much their addresses grow from lane to lane of the last axis.

    0: the same along the last axis, 1: one more each, None: not known. i32 can wrap: the access looks at the last lane.
    """
    refuted: dict[str, None] = {}
    for _ in range(ROUNDS):  # loops: assume that what comes round is as what goes in, until that is refuted
        found: dict[str, None] = {}
        _Steps(dict.fromkeys(function.args, 0) | refuted, refuted, found).walk(function.blocks)
        if not found:
            return
        refuted |= found
    for op in all_ops(function.blocks):
        op.steps = None


ROUNDS = 20  # in which nearly every text is settled
SAME = ("arith.constant", "tt.splat", "tt.get_program_id", "tt.get_num_programs")
KEPT = ("arith.extsi", "arith.extui", "arith.trunci", "tt.bitcast", "tt.broadcast")  # only an axis of one lane is broadcast


class _Steps:
    def __init__(self, step: dict[str, int | None], refuted: dict[str, None], found: dict[str, None]):
        self.step, self.refuted, self.found = step, refuted, found

    def walk(self, blocks: list[Block]) -> None:
        for block in blocks:
            for op in block.ops:
                if op.name == "scf.for":
                    self.loop(op)
                    continue
                steps = [self.step.get(name) for name in op.operands]
                if op.name in ("tt.load", "tt.store"):
                    op.steps = steps[0]
                made = self.of(op, steps)
                for region in op.regions:
                    self.walk(region)
                for i, name in enumerate(op.results):
                    self.step[name] = made if len(op.types) <= i or op.types[i].shape else 0

    @staticmethod
    def of(op: Op, steps: list[int | None]) -> int | None:
        if op.name in SAME:
            return None if op.words.startswith(('dense<[', 'dense<"')) else 0
        if op.name == "tt.make_range":
            return 1
        if op.name in ("arith.addi", "tt.addptr"):
            total = None if None in steps else sum(s or 0 for s in steps)
            return total if total in (0, 1) else None
        if op.name == "arith.subi":
            return steps[0] if steps[1] == 0 else None
        if op.name in KEPT:
            return steps[0]
        if op.name == "tt.expand_dims":
            return 0 if op.attribute("axis") == len(op.type.shape) - 1 else steps[0]
        return 0 if op.types and not op.regions and op.name.startswith("arith.") and all(s == 0 for s in steps) else None

    def loop(self, op: Op) -> None:
        variable, _, inits, names = op.loop()
        if len(op.regions) != 1 or len(inits) != len(names) or len(op.regions[0][0].ops[-1].operands) != len(names):
            raise Malformed("a loop that does not yield what it carries")
        self.step[variable] = 0
        for name, init in zip(names, inits, strict=True):
            refuted = name in self.refuted or self.step.get(name, 0) is None
            self.step[name] = None if refuted else self.step.get(init)
        self.walk(op.regions[0])
        for i, (name, yielded) in enumerate(zip(names, op.regions[0][0].ops[-1].operands, strict=True)):
            if self.step[name] is not None and self.step.get(yielded) != self.step[name]:
                self.found[name] = self.step[name] = None
            if i < len(op.results):
                self.step[op.results[i]] = self.step[name]
