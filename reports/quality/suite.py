"""A suite of expectations: what must hold of some rows, as a YAML file in deployments/quality."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    Field,
    FiniteFloat,
    JsonValue,
    ValidationError,
    field_validator,
    model_validator,
)

from reports.quality.expectations import KINDS, problem
from smartops.errors import BadInput
from smartops.jobs.kinds.quality import SUITE_PATTERN
from smartops.plain_yaml import plain_value
from smartops.settings import get_settings
from smartops.vocabulary import ID_PATTERN, Strict

Share = Annotated[FiniteFloat, Field(ge=0, lt=100)] | Literal["never"]
Scalar = bool | int | FiniteFloat | str
PARAMETERS = ("since", "until", "settled", "since_key", "until_key")
"""What a query may name with a colon before it."""
_PARAMETER = re.compile(r"(?<![:\w]):([A-Za-z_]\w*)")
_QUOTED = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|`[^`]*`|--[^\n]*|/\*.*?\*/", re.DOTALL)
_FIRST_WORD = re.compile(r"(select|with)\b", re.IGNORECASE)
_NOT_READING = re.compile(r"\binto\s+(outfile|dumpfile|@)|\bfor\s+(update|share)\b|\block\s+in\b")
_BIGGEST_FILE = 1_000_000


class Expectation(Strict):
    """What must hold. What the expectation itself takes stands beside these."""

    expect: str = Field(
        description="Its name in Great Expectations, without `expect_`, such as "
        "`column_values_to_be_between`."
    )
    args: dict[str, JsonValue] = Field(default_factory=dict, description="What it takes.")
    where: dict[str, Scalar | list[Scalar]] = Field(
        default_factory=dict,
        description="Only rows whose columns have these values, such as `{tag: [level, flow]}`.",
    )
    warn: Share = Field(
        default="never",
        description="More rows than this that do not meet it are a warning, in percent.",
    )
    fail: Share = Field(
        default=0.0,
        description="More rows than this that do not meet it are a failure, in percent; `never`: "
        "no number is.",
    )
    quarantine: bool = Field(
        default=True,
        description="Whether rows that do not meet it are kept apart, with the reason.",
    )
    message: str = Field(
        default="",
        max_length=500,
        description="What it means when it does not hold, for the person who reads the alert.",
    )

    @model_validator(mode="before")
    @classmethod
    def _own_arguments(cls, given: Any) -> Any:
        """Put what is not a field of ours among the arguments of the expectation."""
        if not isinstance(given, dict) or "args" in given:
            return given
        own = {name: value for name, value in given.items() if name in cls.model_fields}
        return {**own, "args": {name: value for name, value in given.items() if name not in own}}

    @model_validator(mode="after")
    def _is_known(self) -> Self:
        if found := problem(self.expect, self.args):
            raise ValueError(found)
        if self.warn != "never" and self.fail != "never" and self.warn >= self.fail:
            raise ValueError("warn has to be below fail, else nothing is ever a warning")
        if not KINDS[self.expect].of_rows and not self.quarantine:
            raise ValueError("quarantine: false goes with an expectation about rows")
        return self

    @property
    def of_rows(self) -> bool:
        """Whether it tells which rows do not meet it."""
        return KINDS[self.expect].of_rows

    @property
    def columns(self) -> list[str]:
        """The columns that it is about."""
        found: list[str] = []
        for name in KINDS[self.expect].columns:
            value = self.args.get(name)
            found += [str(item) for item in (value if isinstance(value, list) else [value]) if item]
        return found


class Dataset(Strict):
    """Rows, and what is expected of them."""

    name: str = Field(pattern=ID_PATTERN, max_length=64, description="Its name in the results.")
    query: str = Field(
        default="",
        description="A SELECT on the audit store. It may name `:since`, `:until`, `:settled` (a "
        "day before `:until`), `:since_key` and `:until_key` (the ids of these moments). Empty: "
        "the rows that the step is given.",
    )
    expectations: tuple[Expectation, ...] = Field(min_length=1, description="What must hold.")

    @field_validator("query")
    @classmethod
    def _only_reads(cls, text: str) -> str:
        """Refuse what is no query at once; that it only reads is enforced by the database."""
        plain = _QUOTED.sub(" ", text).strip().rstrip(";")
        if text and not _FIRST_WORD.match(plain):
            raise ValueError("a query begins with SELECT or WITH")
        if ";" in plain or _NOT_READING.search(plain.lower()):
            raise ValueError("one statement that only reads is wanted")
        for name in _PARAMETER.findall(plain):
            if name not in PARAMETERS:
                known = ", ".join(f":{known}" for known in PARAMETERS)
                raise ValueError(f"the query names :{name}; it may name {known}")
        return text


class Suite(Strict):
    """Expectations that are looked at together."""

    name: str = Field(pattern=SUITE_PATTERN, max_length=100, description="As its file is called.")
    description: str = Field(min_length=1, description="What it is for, in a sentence.")
    datasets: tuple[Dataset, ...] = Field(min_length=1, max_length=50, description="Its rows.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [dataset.name for dataset in self.datasets]
        if len(set(names)) < len(names):
            raise ValueError("two datasets have the same name")
        if sum(not dataset.query for dataset in self.datasets) > 1:
            raise ValueError("one dataset at most has no query, as a step gives one list of rows")
        return self

    @property
    def takes_rows(self) -> bool:
        """Whether a step has to give it rows."""
        return any(not dataset.query for dataset in self.datasets)


def suite_folder() -> Path:
    """Return where the suites are."""
    return get_settings().deployments / "quality"


def suite_names() -> list[str]:
    """Return the names of all suites there are."""
    return sorted(path.stem for path in suite_folder().glob("*.yaml"))


def find(name: str) -> Path:
    """Return the file of a suite. Raises BadInput."""
    path = suite_folder() / f"{name}.yaml"
    if not re.fullmatch(SUITE_PATTERN, name) or not path.is_file():
        known = ", ".join(suite_names()) or "none"
        raise BadInput(
            f"there is no suite {name!r} in {suite_folder()} (there are: {known})",
            hint=f"Write {name}.yaml there.",
        )
    return path


def load(path: Path) -> Suite:
    """Return the suite of a file. Raises BadInput: what is wrong with it, in one line."""
    try:
        if path.stat().st_size > _BIGGEST_FILE:
            raise BadInput(f"{path} is larger than {_BIGGEST_FILE:,} bytes: no suite")
        found = plain_value(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadInput(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    try:
        suite = Suite.model_validate(found)
    except ValidationError as error:
        raise BadInput(f"{path}: {next(_explained(error))}") from None
    except RecursionError:
        raise BadInput(f"{path}: too deeply nested") from None
    if suite.name != path.stem:
        raise BadInput(f"{path}: name: {suite.name!r} is not what the file is called")
    return suite


def revision(path: Path) -> str:
    """Return which text of a suite this is: its SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _explained(error: ValidationError) -> Iterator[str]:
    for detail in error.errors(include_url=False):
        where = ".".join(str(part) for part in detail["loc"])
        said = {
            "extra_forbidden": "there is no such field",
            "missing": "is missing",
            "model_type": "a mapping is wanted",
            "tuple_type": "a list is wanted",
        }.get(detail["type"], detail["msg"].removeprefix("Value error, "))
        yield f"{where}: {said}" if where else f"a suite is a mapping: {said}"
