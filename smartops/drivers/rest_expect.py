"""What an answer of a REST service has to be like, and the values that are taken out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from smartops import errors, redact

_SHOWN = 200


@dataclass(frozen=True)
class Expectation:
    """What is expected of an answer beside its status."""

    headers: Mapping[str, str] = field(default_factory=dict)
    """Names, and a text that each must contain."""
    schema: Mapping[str, Any] | None = None
    """A JSON Schema for the body."""
    extract: Mapping[str, str] = field(default_factory=dict)
    """Names, and where their values stand in the body (JMESPath)."""

    def check(self, what: str, headers: Mapping[str, str], body: Any) -> dict[str, Any]:
        """Return the extracted values. Raises ExpectationFailed."""
        for name, part in self.headers.items():
            found = headers.get(name.lower())
            if found is None or part.lower() not in found.lower():
                has = "has none" if found is None else f"is {found!r}"
                raise errors.ExpectationFailed(
                    redact.text(f"{what}: its header {name} {has}, and is to contain {part!r}")
                )
        if self.schema is not None:
            _fit(what, self.schema, body)
        return {name: _extracted(what, name, path, body) for name, path in self.extract.items()}


def _fit(what: str, schema: Mapping[str, Any], body: Any) -> None:
    # They are slow to import, and few steps have a schema.
    from jsonschema import Draft202012Validator  # noqa: PLC0415
    from jsonschema.exceptions import best_match  # noqa: PLC0415
    from jsonschema.validators import validator_for  # noqa: PLC0415
    from referencing import Registry  # noqa: PLC0415
    from referencing.exceptions import Unresolvable  # noqa: PLC0415

    kind = validator_for(dict(schema), Draft202012Validator)
    # A registry of its own: the usual one fetches what a schema refers to, from anywhere.
    validator = kind(dict(schema), registry=Registry())
    try:
        problem = best_match(validator.iter_errors(body))
    except Unresolvable as error:
        raise errors.BadInput(f"the expected schema refers to what is not in it: {error}") from None
    if problem is not None:
        said = redact.text(problem.message)[:_SHOWN]
        raise errors.ExpectationFailed(
            f"{what}: the answer does not fit the expected schema at {problem.json_path}: {said}"
        )


def _extracted(what: str, name: str, path: str, body: Any) -> Any:
    found = find(what, path, body)
    if found is None:
        raise errors.ExpectationFailed(
            f"{what}: nothing stands at {path!r}, which is to give {name}"
        )
    return found


def find(what: str, path: str, body: Any) -> Any:
    """Return what stands at a JMESPath, None for nothing. Raises ExpectationFailed, BadInput."""
    import jmespath  # noqa: PLC0415 - few steps need it

    if not path:
        return body
    try:
        return jmespath.search(path, body)
    except jmespath.exceptions.ParseError as error:
        raise errors.BadInput(f"{path!r} is no JMESPath: {' '.join(str(error).split())}") from None
    except jmespath.exceptions.JMESPathError as error:
        text = redact.text(" ".join(str(error).split()))[:_SHOWN]
        raise errors.ExpectationFailed(f"{what}: {path!r} cannot be looked for: {text}") from None


def holds(found: Any) -> bool:
    """Return whether a value counts as true, as JMESPath has it: 0 does."""
    return found is not None and found is not False and found not in ("", [], {})
