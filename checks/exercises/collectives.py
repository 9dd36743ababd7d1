"""Lesson 12: bytes and time of an exchange, and what two GPUs gain."""

from checks.judge.exercise import Exercise, Expected, Mutant, numbers

LESSON = "12_two_gpus"


def sent_in_a_ring(num_bytes: float, size: int) -> float:
    """Step by step: in each of size - 1 steps, twice, a rank hands one of `size` pieces on."""
    return sum(num_bytes / size for half in range(2) for step in range(size - 1))


def near(value: float) -> tuple[Expected]:
    return (Expected(value, 1e-9 * abs(value)),)


_TWICE = "The ring goes round twice, once to add and once to hand the sums on: 2 (size - 1) / size of the bytes."

RING_BYTES = Exercise(
    name="ring_all_reduce_bytes",
    lesson=LESSON,
    points=1,
    oracle=lambda num_bytes, size: near(sent_in_a_ring(num_bytes, size)),
    cases=(numbers(num_bytes=4096, size=2), numbers(num_bytes=1 << 26, size=8), numbers(num_bytes=999, size=3),
           numbers(num_bytes=4096, size=1)),
    mutants=(
        Mutant("all of the bytes", {"2 * (size - 1) / size * num_bytes": "num_bytes"}, _TWICE),
        Mutant("twice the bytes", {"2 * (size - 1) / size * num_bytes": "2 * num_bytes"},
               "A rank's own piece need not be sent: size - 1 of `size` pieces, twice."),
        Mutant("once round", {"2 * (size - 1)": "(size - 1)"}, _TWICE),
        Mutant("the whole tensor in each step", {"2 * (size - 1) / size * num_bytes": "2 * (size - 1) * num_bytes"},
               "In each step a rank sends one piece, num_bytes / size."),
    ),
)

ALL_REDUCE_US = Exercise(
    name="all_reduce_us",
    lesson=LESSON,
    points=1,
    oracle=lambda num_bytes, size, latency_us, gb_per_s: near(
        sum(latency_us for step in range(2 * (size - 1))) + sent_in_a_ring(num_bytes, size) / (gb_per_s * 1e9) * 1e6),
    cases=(numbers(num_bytes=8192, size=2, latency_us=4.0, gb_per_s=300.0),
           numbers(num_bytes=1 << 27, size=2, latency_us=4.0, gb_per_s=300.0),
           numbers(num_bytes=1 << 20, size=8, latency_us=3.0, gb_per_s=50.0),
           numbers(num_bytes=1000, size=1, latency_us=5.0, gb_per_s=10.0)),
    mutants=(
        Mutant("no latency", {"2 * (size - 1) * latency_us + ": ""},
               "Each of the 2 (size - 1) steps begins with its latency, however few its bytes."),
        Mutant("the latency once", {"2 * (size - 1) * latency_us": "(size > 1) * latency_us"},
               "The steps follow each other: 2 (size - 1) latencies."),
        Mutant("two latencies", {"2 * (size - 1) * latency_us": "2 * latency_us"},
               "A ring of `size` ranks takes size - 1 steps, twice: 2 (size - 1) latencies."),
        Mutant("the latency of half of the steps", {"2 * (size - 1) * latency_us": "(size - 1) * latency_us"},
               "The ring goes round twice: 2 (size - 1) latencies."),
        Mutant("GB taken for bytes", {"(gb_per_s * 1e3)": "gb_per_s"},
               "GB/s are 1e9 bytes in 1e6 microseconds: bytes / (gb_per_s · 1e3)."),
        Mutant("GB taken for MB", {"(gb_per_s * 1e3)": "(gb_per_s * 1e6)"},
               "GB/s are 1e9 bytes in 1e6 microseconds: bytes / (gb_per_s · 1e3)."),
        Mutant("all bytes of the tensor", {"ring_all_reduce_bytes(num_bytes, size)": "num_bytes"},
               "What a rank sends is `ring_all_reduce_bytes(num_bytes, size)`."),
        Mutant("the bytes in every step", {"+ ring_all_reduce_bytes(num_bytes, size)":
               "+ 2 * (size - 1) * ring_all_reduce_bytes(num_bytes, size)"},
               "`ring_all_reduce_bytes` is what a rank sends in all steps together: only the latency is paid in each."),
        Mutant("the longer of the two", {"return 2 * (size - 1) * latency_us + ring_all_reduce_bytes(num_bytes, size) / "
                                          "(gb_per_s * 1e3)": "return max(2 * (size - 1) * latency_us, "
                                          "ring_all_reduce_bytes(num_bytes, size) / (gb_per_s * 1e3))"},
               "Latency and transfer follow each other: add them."),
    ),
)

SHARED_SCALE_BYTES = Exercise(
    name="shared_scale_bytes",
    lesson=LESSON,
    points=1,
    oracle=lambda M, N, size: near(sent_in_a_ring(M * 4, size) + sent_in_a_ring(M * N * 4, size)),
    cases=(numbers(M=1, N=4096, size=2), numbers(M=8192, N=4096, size=2), numbers(M=16, N=1, size=4),
           numbers(M=3, N=5, size=3)),
    mutants=(
        Mutant("the maxima left out", {"ring_all_reduce_bytes(4 * M, size) + ": ""},
               "The scale is exchanged too: one FP32 number for each row."),
        Mutant("FP16 sums", {"4 * M * N": "2 * M * N"}, "The partial sums are INT32: four bytes each."),
        Mutant("one byte for each sum", {"4 * M * N": "M * N"}, "The partial sums are INT32: four bytes each."),
        Mutant("the sums left out", {" + ring_all_reduce_bytes(4 * M * N, size)": ""},
               "The partial sums of y, M · N INT32 numbers, are exchanged after the maxima."),
        Mutant("a maximum for each column", {"ring_all_reduce_bytes(4 * M, size)": "ring_all_reduce_bytes(4 * N, size)"},
               "The scale is of a row of x: M of them."),
        Mutant("not in a ring", {"ring_all_reduce_bytes(4 * M, size) + ring_all_reduce_bytes(4 * M * N, size)":
                                  "4 * M + 4 * M * N"}, "What a rank sends is `ring_all_reduce_bytes` of each tensor."),
        Mutant("FP16 maxima", {"ring_all_reduce_bytes(4 * M, size)": "ring_all_reduce_bytes(2 * M, size)"},
               "The maxima are FP32: four bytes each."),
    ),
)

PARALLEL_SPEEDUP = Exercise(
    name="parallel_speedup",
    lesson=LESSON,
    points=1,
    oracle=lambda us, cut, size, exchange_us: near(us / (us * (1 - cut * (size - 1) / size) + exchange_us)),
    cases=(numbers(us=100.0, cut=0.8, size=2, exchange_us=20.0), numbers(us=4000.0, cut=0.9, size=2, exchange_us=500.0),
           numbers(us=50.0, cut=0.5, size=4, exchange_us=40.0), numbers(us=100.0, cut=1.0, size=2, exchange_us=0.0),
           numbers(us=100.0, cut=0.0, size=8, exchange_us=10.0)),
    mutants=(
        Mutant("the exchange left out", {" + exchange_us)": ")"},
               "The exchange is time that one GPU does not need: add it."),
        Mutant("all of the time is divided", {"(1 - cut) * us + cut * us / size": "us / size"},
               "Only the part `cut` is divided; every GPU does the rest itself."),
        Mutant("the part that stays is forgotten", {"(1 - cut) * us + cut": "cut"},
               "Every GPU does the part 1 - cut itself."),
        Mutant("the two parts exchanged", {"(1 - cut) * us + cut * us / size": "cut * us + (1 - cut) * us / size"},
               "`cut` is the part that is divided."),
        Mutant("the exchange is divided too", {"cut * us / size + exchange_us": "(cut * us + exchange_us) / size"},
               "All GPUs exchange at the same time, for as long as it takes."),
        Mutant("the new time", {"us / ((1 - cut) * us + cut * us / size + exchange_us)":
                                 "(1 - cut) * us + cut * us / size + exchange_us"},
               "How many times as fast: the old time over the new one."),
        Mutant("its inverse", {"us / ((1 - cut) * us + cut * us / size + exchange_us)":
                                "((1 - cut) * us + cut * us / size + exchange_us) / us"},
               "How many times as fast: the old time over the new one, 2 is twice."),
        Mutant("hidden behind the products", {"cut * us / size + exchange_us": "max(cut * us / size, exchange_us)"},
               "Here the exchange begins when the product is done: the times add."),
    ),
)

EXERCISES = (RING_BYTES, ALL_REDUCE_US, SHARED_SCALE_BYTES, PARALLEL_SPEEDUP)
