"""What ranks must exchange, and how long it takes: models of collectives, and of a product that is cut over several GPUs."""


def ring_all_reduce_bytes(num_bytes: float, size: int) -> float:
    """Bytes that each of `size` ranks sends when they all-reduce a tensor of `num_bytes` in a ring.

    The tensor is cut into `size` pieces. For size - 1 steps each rank hands one piece to the next
    rank, which adds it to its own; for size - 1 more the sums go round. P. Patarasuk and X. Yuan,
    "Bandwidth optimal all-reduce algorithms for clusters of workstations", JPDC 69(2), 2009.
    """
    return 2 * (size - 1) / size * num_bytes


def all_reduce_us(num_bytes: float, size: int, latency_us: float, gb_per_s: float) -> float:
    """Microseconds of a ring all-reduce: its 2 (size - 1) steps, and the bytes that a rank sends.

    Each step takes `latency_us` before its first byte arrives; a rank sends `gb_per_s`
    (1e9 bytes a second).
    """
    return 2 * (size - 1) * latency_us + ring_all_reduce_bytes(num_bytes, size) / (gb_per_s * 1e3)


def shared_scale_bytes(M: int, N: int, size: int) -> float:
    """Bytes that each rank sends in a row-parallel product with a shared scale, y (M, N).

    Two ring all-reduces: the maximum of one FP32 number for each row, and the sum of INT32.
    """
    return ring_all_reduce_bytes(4 * M, size) + ring_all_reduce_bytes(4 * M * N, size)


def parallel_speedup(us: float, cut: float, size: int, exchange_us: float) -> float:
    """How many times as fast `size` GPUs are as one, which takes `us`.

    The part `cut` (0 to 1) of the time is divided among them, each does the rest itself, and they
    exchange for `exchange_us`.
    """
    return us / ((1 - cut) * us + cut * us / size + exchange_us)
