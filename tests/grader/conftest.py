"""One fork server for all graders of a test process: to import torch and Triton takes longer than most tests."""

import pytest

from checks.grader.sandbox.client import ForkServer

CLOSE = ForkServer.close


@pytest.fixture(scope="session", autouse=True)
def fork_server():
    """What graders call in place of `ForkServer`. That of kind "run" stays open, and is made anew only when it has died."""
    kept: list[ForkServer] = []

    def start(kind: str, timeout_s: float, *variables: dict[str, str]) -> ForkServer:
        if kind != "run":
            return ForkServer(kind, timeout_s, *variables)
        if not kept or kept[-1].process.poll() is not None:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("SECRET_TOKEN", "swordfish")  # of the instructor's environment
                kept.append(ForkServer(kind, timeout_s))
            kept[-1].close = lambda: None
        kept[-1].timeout_s = timeout_s
        return kept[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("checks.grader.grader.ForkServer", start)
        yield start
    for server in kept:
        CLOSE(server)
