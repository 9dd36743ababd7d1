"""Lesson 01: what a warp's load costs in sectors of memory."""

from checks.judge.exercise import Exercise, Expected, Mutant, numbers

_ANSWER = "max(1, min(32, stride * element_bytes))"

SECTORS = Exercise(
    name="sectors_per_request",
    lesson="01_gemv_fp16",
    points=2,
    cases=(numbers(stride=1, element_bytes=4), numbers(stride=3, element_bytes=4), numbers(stride=1, element_bytes=2),
           numbers(stride=2, element_bytes=16), numbers(stride=4096, element_bytes=2), numbers(stride=1, element_bytes=1),
           numbers(stride=0, element_bytes=4)),
    oracle=lambda stride, element_bytes: (Expected(len({
        (thread * stride * element_bytes + byte) // 32 for thread in range(32) for byte in range(element_bytes)})),),
    mutants=(
        Mutant("a sector for each thread", {_ANSWER: "32"},
               "Threads whose elements lie in the same sector share it: neighbours of 4 bytes, eight to a sector."),
        Mutant("rounded up for each thread", {_ANSWER: "min(32, 32 * -(-stride * element_bytes // 32))"},
               "Threads whose elements lie in the same sector share it: round up once, for all 32 threads together."),
        Mutant("the stride left out", {"stride * element_bytes": "element_bytes"},
               "With a larger stride the 32 elements reach further, so they touch more sectors."),
        Mutant("more sectors than threads", {"min(32, stride * element_bytes)": "stride * element_bytes"},
               "32 elements lie in at most 32 sectors, however far apart they are: what is between them is not touched."),
        Mutant("neither limit", {_ANSWER: "stride * element_bytes"},
               "32 elements lie in at most 32 sectors, however far apart they are, and in one at least."),
        Mutant("the stride taken for bytes", {"stride * element_bytes": "stride"},
               "The stride counts elements: neighbouring threads are stride * element_bytes bytes apart."),
        Mutant("no sector for a stride of 0", {_ANSWER: "min(32, stride * element_bytes)"},
               "With a stride of 0 all threads load the same element, and that lies in one sector."),
        Mutant("sectors of 128 bytes", {"stride * element_bytes))": "-(-stride * element_bytes // 4)))"},
               "A sector has 32 bytes. (128 bytes are a cache line of four sectors.)"),
        Mutant("the bytes from the first to the last",
               {"max(1, min(32, stride * element_bytes))": "(31 * stride * element_bytes + element_bytes) // 32"},
               "A sector that is touched in part counts too, and one between two elements does not."),
        Mutant("the sectors from the first to the last",
               {_ANSWER: "-(-(31 * stride * element_bytes + element_bytes) // 32)"},
               "A sector between two elements, in which none lies, is not touched."),
    ),
)

EXERCISES = [SECTORS]
