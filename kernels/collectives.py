"""What ranks must exchange, and how long it takes: models of collectives, and of a product that is cut over several GPUs."""


def ring_all_reduce_bytes(num_bytes: int, size: int) -> float:
    """Bytes that each of `size` ranks sends when they all-reduce a tensor of `num_bytes` in a ring.

    The tensor is cut into `size` pieces. For size - 1 steps each rank hands one piece to the next
    rank, which adds it to its own; for size - 1 more the sums go round. P. Patarasuk and X. Yuan,
    "Bandwidth optimal all-reduce algorithms for clusters of workstations", JPDC 69(2), 2009.
    """
    return 2 * (size - 1) / size * num_bytes
