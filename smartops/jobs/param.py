"""A value that a person or a program gives: a parameter of a job, a field of an approval."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, model_validator

from smartops.errors import BadInput
from smartops.vocabulary import ID_PATTERN, Strict

ParamName = Annotated[str, Field(pattern=ID_PATTERN, max_length=64)]
_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}


class Param(Strict):
    """A value that is given when a run is started."""

    type: Literal["string", "integer", "number", "boolean"] = Field(
        default="string", title="Type", description="What kind of value."
    )
    default: JsonValue = Field(
        default=None, title="Default", description="The value when none is given. Empty: required."
    )
    description: str = Field(default="", title="Description", description="What it is for.")
    choices: tuple[JsonValue, ...] = Field(
        default=(), title="Choices", description="The values that it may have. Empty: any."
    )
    minimum: float | None = Field(
        default=None, allow_inf_nan=False, title="Minimum", description="For numbers: the least."
    )
    maximum: float | None = Field(
        default=None, allow_inf_nan=False, title="Maximum", description="For numbers: the greatest."
    )

    @model_validator(mode="after")
    def _limits_fit(self) -> Param:
        limits = [limit for limit in (self.minimum, self.maximum) if limit is not None]
        if limits and self.type not in {"integer", "number"}:
            raise ValueError("minimum and maximum go with numbers")
        if len(limits) == 2 and limits[0] > limits[1]:
            raise ValueError("the minimum is above the maximum")
        for choice in self.choices:
            self._check_type("a choice", choice)
        return self

    @model_validator(mode="after")
    def _default_fits(self) -> Param:
        if self.default is not None:
            self.check("default", self.default)
        return self

    def check(self, name: str, value: Any) -> Any:
        """Return the value if it is one that the parameter may have; raise ValueError if not."""
        self._check_type(name, value)
        if self.choices and value not in self.choices:
            known = ", ".join(str(choice) for choice in self.choices)
            raise ValueError(f"{name}: {value!r} is none of {known}")
        for limit, is_out, word in (
            (self.minimum, operator.lt, "below"),
            (self.maximum, operator.gt, "above"),
        ):
            if limit is not None and is_out(value, limit):
                raise ValueError(f"{name}: {value!r} is {word} {limit:g}")
        return value

    def _check_type(self, name: str, value: object) -> None:
        fits = isinstance(value, _PYTHON_TYPES[self.type])
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name}: {value!r} is no number that can be used")
        if not fits or (isinstance(value, bool) and self.type != "boolean"):
            raise ValueError(f"{name}: {value!r} is not of type {self.type}")


def from_texts(params: Mapping[str, Param], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return values that were written as text, such as on a command line, as their types say.

    A text that is none of its type stays as it is, to be refused as such.
    """
    return {
        name: _from_text(params[name], value)
        if name in params and isinstance(value, str)
        else value
        for name, value in given.items()
    }


def _from_text(param: Param, text: str) -> Any:
    if param.type == "string":
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def fill_in(
    params: Mapping[str, Param], given: Mapping[str, Any], whose: str, what: str
) -> dict[str, Any]:
    """Return all values by name, those that are not given at their defaults.

    ``whose`` and ``what`` say in an error which of them it is about: a job's parameter, a form's
    field. Raises BadInput for a wrong or missing one.
    """
    if unknown := sorted(set(given) - set(params)):
        known = ", ".join(params) or "none"
        raise BadInput(f"{whose} has no {what} {unknown[0]!r} (it has: {known})")
    values: dict[str, Any] = {}
    for name, param in params.items():
        value = given.get(name, param.default)
        if value is None:
            raise BadInput(f"{whose} needs a value for {what} {name!r}")
        try:
            values[name] = param.check(name, value)
        except ValueError as error:
            raise BadInput(f"{whose}: {what} {error}") from None
    return values
