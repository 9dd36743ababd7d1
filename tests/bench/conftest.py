"""What every test of the benchmark has around it."""

import subprocess

import pytest


@pytest.fixture(autouse=True)
def processes_end(monkeypatch):
    """A process whose output is read is waited for when it has said all, or was ended: one that goes on fails the test."""
    wait = subprocess.Popen.wait

    def soon(process, timeout=None):
        try:
            return wait(process, 5 if timeout is None and process.stdout else timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise

    monkeypatch.setattr(subprocess.Popen, "wait", soon)
