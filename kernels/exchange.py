"""What ranks tell each other: the collectives of a `torch.distributed` process group, and who waits for whom when one fails.

    Group        rank and size, sums and maxima over all ranks, a check that all of them hold the same weights.
    PeerMemory   small tensors on GPUs: each rank writes where the others can read it, all wait at a barrier, each adds up.
                 Torch's symmetric memory; 5 µs on two H200s, where NCCL's all-reduce takes 10.

A group of one exchanges nothing.
"""

import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.distributed as dist

from kernels.launch import is_traced

OPS = {"sum": dist.ReduceOp.SUM, "max": dist.ReduceOp.MAX} if dist.is_available() else {}
PIECE = 1 << 24
"""Numbers of a tensor that `checksum` looks at in one go."""


class RankLost(RuntimeError):
    """A collective did not come to its end: another rank is gone, or did not come to it in time."""


class Group:
    """The ranks of a process group, `torch.distributed`'s default one if none is named.

    Raises RuntimeError where there is none.
    """

    def __init__(self, group: "dist.ProcessGroup | Group | None" = None):
        self.process_group: dist.ProcessGroup
        if isinstance(group, Group):
            group = group.process_group
        if group is None:
            if not (dist.is_available() and dist.is_initialized()):
                raise RuntimeError("there is no process group: call torch.distributed.init_process_group() first, in each "
                                   "rank, or hand one on as `group`")
            group = dist.group.WORLD
        if not isinstance(group, dist.ProcessGroup):
            raise TypeError(f"group must be a torch.distributed process group of which this rank is a member, got {group!r}")
        self.process_group = group
        self.name: str = group.group_name
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        self.peers: PeerMemory | None = None

    def all_reduce(self, tensor: torch.Tensor, op: str = "sum", what: str = "") -> torch.Tensor:
        """`tensor` with the sum, or the maximum ("max"), over all ranks in the place of each number; gives it back.

        Raises RankLost where another rank is gone or does not come in time; `what` names the tensor in its message.
        """
        if op not in ("sum", "max"):
            raise ValueError(f'op must be "sum" or "max", got {op!r}')
        if self.size == 1:
            return tensor
        if torch.compiler.is_compiling() or is_traced():
            reduced = torch.ops._c10d_functional.all_reduce(tensor, op, self.name)
            return torch.ops._c10d_functional.wait_tensor(reduced)
        self._meet(lambda: dist.all_reduce(tensor, OPS[op], group=self.process_group), op, tensor, what)
        return tensor

    def start_sum(self, tensor: torch.Tensor) -> Callable[[], object]:
        """Begins the sum of `tensor` over all ranks, in its place, beside what comes after. The call waits for it."""
        work = dist.all_reduce(tensor, group=self.process_group, async_op=True)
        return lambda: self._meet(work.wait, "sum", tensor, "")

    def all_gather(self, tensor: torch.Tensor, what: str = "") -> torch.Tensor:
        """The tensors of all ranks, (size, ...), in the order of the ranks. Raises as `all_reduce`."""
        gathered = tensor.new_empty((self.size, *tensor.shape))
        if self.size == 1:
            return gathered.copy_(tensor[None])
        parts = list(gathered.unbind())
        self._meet(lambda: dist.all_gather(parts, tensor.contiguous(), group=self.process_group), "gathering", tensor, what)
        return gathered

    def _meet(self, collective: Callable[[], object], op: str, tensor: torch.Tensor, what: str) -> None:
        try:
            collective()
        except RuntimeError as error:
            others = [str(rank) for rank in range(self.size) if rank != self.rank]
            whom = f"rank {others[0]}" if len(others) == 1 else f"one of the ranks {', '.join(others)}"
            of = f"{what + ' ' if what else ''}{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
            reason = re.sub(r"^\[[^]]*\] *", "", str(error).strip()).splitlines()[0].split(". ")[0]  # no place in C++
            raise RankLost(f"rank {self.rank} waits for {whom} in the {op} of {of}, and no answer comes: that rank has "
                           f"ended, or does something else. torch.distributed says: {reason}") from error

    def expect_same(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Raises ValueError, in every rank, unless all ranks have the same tensors under the same names."""
        if self.size == 1:
            return
        device = next(iter(tensors.values())).device if tensors else torch.device("cpu")
        outline = zlib.crc32(repr([(name, tuple(t.shape), t.dtype) for name, t in tensors.items()]).encode())
        if not self._same(torch.tensor([len(tensors), outline], device=device)).all():
            raise ValueError("the ranks hold different weights: not the same names, shapes or dtypes. Build the same model "
                             "on every rank before it is cut")
        same = self._same(torch.stack([checksum(t) for t in tensors.values()]).to(device))
        for name, alike in zip(tensors, same.tolist(), strict=True):
            if not alike:
                raise ValueError(f"the ranks hold different weights: {name} is not the same on all of them. Load the same "
                                 "weights on every rank, or make them after the same torch.manual_seed, before it is cut")

    def _same(self, numbers: torch.Tensor) -> torch.Tensor:
        """Bool, which of these whole numbers are the same on all ranks."""
        both = self.all_reduce(torch.stack((numbers, -numbers)), "max", "the weights' checksums")
        return both[0] == -both[1]


def checksum(tensor: torch.Tensor) -> torch.Tensor:
    """A whole number below 2⁶² that differs, all but certainly, where a bit of the tensor does, or its numbers' order."""
    # Numbers of 64 bits in halves: of a sum the two highest bits are lost, and the sign is one of them.
    whole = {1: torch.int8, 2: torch.int16}.get(tensor.element_size(), torch.int32)
    flat = tensor.detach().contiguous().view(-1).view(whole)
    total = torch.zeros((), dtype=torch.int64, device=flat.device)
    for start in range(0, flat.numel(), PIECE):
        bits = flat[start:start + PIECE].long()
        places = torch.arange(start, start + len(bits), device=flat.device) % 65_521 + 1
        total = total * 31 + (bits * places).sum()
    return total & (2**62 - 1)


class PeerMemory:
    """Buffers of `size_bytes` on each of the group's GPUs, which every rank can read: torch's symmetric memory.

    There are two, 0 and 1. Who uses them in turns may write into one again as soon as the barrier of the other is passed;
    see `meet`. Collective: all ranks make it at the same point.
    """

    def __init__(self, group: Group, size_bytes: int = 1 << 20):
        import torch.distributed._symmetric_memory as symmetric

        self.size_bytes, self.rank, self.size = size_bytes, group.rank, group.size
        device = torch.device("cuda", torch.cuda.current_device())
        self._memory = [symmetric.empty(size_bytes, dtype=torch.uint8, device=device) for _ in range(2)]
        self._handles: list[Any] = [symmetric.rendezvous(memory, group.process_group) for memory in self._memory]

    def room(self, buffer: int, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """This rank's buffer as a tensor to write into."""
        return self._handles[buffer].get_buffer(self.rank, shape, dtype)

    def meet(self, buffer: int, shape: tuple[int, ...], dtype: torch.dtype) -> list[torch.Tensor]:
        """The buffers of all ranks in their order, to read from, once all have written theirs."""
        self._handles[buffer].barrier(channel=buffer)
        return [self._handles[buffer].get_buffer(rank, shape, dtype) for rank in range(self.size)]
