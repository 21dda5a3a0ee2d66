"""What a report says in words: Jinja in a sandbox, over the rows of the report's queries."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from reports import wording
from smartops.errors import BadInput
from smartops.jobs.templating import sandbox

if TYPE_CHECKING:
    from jinja2 import Environment

    from reports.document import Kind

_FILTERS = ("groupby", "list", "map", "reject", "rejectattr", "reverse", "select", "selectattr")
_LONGEST = 20_000
_MEMORY = 1_000_000_000


def names_in(text: str) -> set[str]:
    """Return the names that a template takes from outside. Raises ValueError: what is wrong."""
    from jinja2 import TemplateError, TemplateSyntaxError, meta, nodes  # noqa: PLC0415 - slow

    made = _environment("UTC")
    try:
        tree = made.parse(text)
        made.from_string(text)  # knows which filters there are
    except TemplateSyntaxError as error:
        raise ValueError(f"line {error.lineno} of it: {error.message}") from None
    except TemplateError as error:
        raise ValueError(str(error)) from None
    except (RecursionError, SyntaxError):  # the latter is Python's own limit of nested blocks
        raise ValueError("too deeply nested") from None
    for kind in (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends, nodes.Call):
        if found := next(tree.find_all(kind), None):
            said = "calls nothing" if kind is nodes.Call else "is whole by itself"
            raise ValueError(f"line {found.lineno} of it: a template {said}")
    return meta.find_undeclared_variables(tree)


def _environment(zone: str) -> Environment:
    made = sandbox(*_FILTERS, trim_blocks=True, lstrip_blocks=True)
    made.filters["shown"] = partial(_shown, zone)
    return made


def _shown(zone: str, value: Any, kind: str = "text") -> str:
    """Return a value as the tables show it: ``{{ row.took_s | shown("seconds") }}``."""
    if kind == "time" and isinstance(value, str):
        value = datetime.fromisoformat(value)
    return wording.shown(value, cast("Kind", kind), zone)


def written(texts: Mapping[str, str], names: Mapping[str, Any], zone: str) -> dict[str, str]:
    """Return what the templates come to. For a process of its own: it limits its memory.

    Raises BadInput, naming the template.
    """
    from jinja2 import TemplateError  # noqa: PLC0415 - slow

    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    made = _environment(zone)
    found = {}
    for where, text in texts.items():
        try:
            found[where] = made.from_string(text).render(**names)
        except MemoryError:
            raise BadInput(f"{where}: it takes too much memory") from None
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise BadInput(f"{where}: {error}") from None
        except BadInput as error:
            raise BadInput(f"{where}: {error}") from None
        if len(found[where]) > _LONGEST:
            raise BadInput(f"{where}: it comes to more than {_LONGEST:,} characters")
    return found
