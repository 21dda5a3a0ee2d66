"""What is promised of jobs, one file for each: ``slo/*.yaml`` in the deployments folder."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from smartops.durations import Duration, format_duration
from smartops.errors import BadInput
from smartops.plain_yaml import PlainLoader
from smartops.vocabulary import Strict
from smartops.yaml_problems import first_problem

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]


class Objective(Strict):
    """One promise."""

    name: Name | None = None
    """By which rules of alerts refer to it; its kind where none is given."""

    kind: Literal["success", "latency", "freshness"]
    """Runs that succeed; successful runs that take at most ``limit``; the time in which the last
    success is at most ``limit`` old."""
    target: float = Field(gt=0, lt=1)
    """The share that has to be well, such as 0.99."""
    limit: Duration | None = None

    @model_validator(mode="after")
    def _limit_where_it_matters(self) -> Objective:
        if (self.kind == "success") != (self.limit is None):
            raise ValueError("latency and freshness need a limit, and success has none")
        return self

    @property
    def called(self) -> str:
        """Its name, which no other promise of the job has."""
        return self.name or self.kind

    @property
    def text(self) -> str:
        """The promise in words."""
        if self.limit is None:
            return "runs succeed"
        limit = format_duration(self.limit)
        if self.kind == "latency":
            return f"runs take at most {limit}"
        return f"the last success is at most {limit} old"


class Objectives(Strict):
    """All that is promised of one job."""

    job: str = Field(min_length=1)
    window: Duration = timedelta(days=28)
    """The time over which the promises hold; it ends with the report's period."""
    objectives: tuple[Objective, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _told_apart(self) -> Objectives:
        names = [promise.called for promise in self.objectives]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two objectives are called {name!r}: give each a name of its own")
        return self


def load_all(folder: Path) -> list[Objectives]:
    """Return the promises of all files, by the jobs' names. Raises BadInput naming the file."""
    found: dict[str, Objectives] = {}
    for path in sorted(folder.glob("*.yaml")) if folder.is_dir() else ():
        loaded = _load(path)
        if loaded.job in found:
            raise BadInput(f"{path}: job: another file has the objectives of {loaded.job} already")
        found[loaded.job] = loaded
    return [found[job] for job in sorted(found)]


def _load(path: Path) -> Objectives:
    try:
        content = yaml.load(path.read_text("utf-8"), PlainLoader)  # noqa: S506 - a safe one
        return Objectives.model_validate(content)
    except ValidationError as error:
        raise BadInput(f"{path}: {first_problem(error)}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise BadInput(f"{path}: {' '.join(str(error).split())}") from None
