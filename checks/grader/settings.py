"""What an instructor chooses for a run, apart from where submissions and results are."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from checks.grader.course import DEFAULT


@dataclass(frozen=True)
class Settings:
    """Each of these can change a result, so that each is part of the key by which `--resume` keeps one."""

    seed: int  # of inputs and hidden sizes
    course: Path = DEFAULT
    exercises: tuple[str, ...] = ()  # none: all of the course
    compiles: bool = True  # passing kernels also for real GPUs
    require_isolation: bool = False  # refuse to grade with less than full isolation
    timeout_s: float = 60.0  # for all cases of one exercise; an honest one takes a few seconds
    student_timeout_s: float = 900.0  # for all exercises of one submission; an honest one takes seconds
    gpus: tuple[int, ...] = ()  # on which passing kernels also run, each worker on one

    def to_json(self) -> str:
        """All of it, the course's text in place of its path: for a machine that has not this one's files."""
        return json.dumps(asdict(self) | {"course": self.course.read_text()})


def settings_from_json(text: str, folder: Path) -> Settings:
    """The settings of `Settings.to_json`; their course is written into `folder`."""
    fields = json.loads(text)
    course = folder / "course.toml"
    course.write_text(fields["course"])
    return Settings(**fields | {"course": course, "exercises": tuple(fields["exercises"]), "gpus": tuple(fields["gpus"])})
