"""Fork servers for all graders of a test process: to import torch and Triton takes longer than most tests."""

import pytest

from checks.grader.sandbox.client import ForkServer

CLOSE = ForkServer.close


@pytest.fixture(scope="session", autouse=True)
def fork_server():
    """What graders call in place of `ForkServer`. Those that need no GPU stay open, and are made anew only when they have
    died."""
    kept: dict[str, ForkServer] = {}

    def start(kind: str, timeout_s: float, *variables: dict[str, str]) -> ForkServer:
        if kind == "gpu":
            return ForkServer(kind, timeout_s, *variables)
        if kind not in kept or kept[kind].process.poll() is not None:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("SECRET_TOKEN", "swordfish")  # of the instructor's environment
                kept[kind] = ForkServer(kind, timeout_s)
            kept[kind].close = lambda: None
        kept[kind].timeout_s = timeout_s
        return kept[kind]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("checks.grader.grader.ForkServer", start)
        patch.setattr("checks.grader.grading.compiling.ForkServer", start)
        yield start
    for server in kept.values():
        CLOSE(server)
