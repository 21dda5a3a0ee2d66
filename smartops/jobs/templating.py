"""Sandboxed expressions in job files: ``{{ steps.level.value }}``, ``{{ params.line }}``.

A text that is one expression keeps the value's type (``"{{ steps.level.value }}"`` is a number);
an expression inside a text is put in as text. There are no statements, and names that start with
an underscore, method calls on data and huge powers or repetitions are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias, cast

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, Undefined, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from smartops import errors

_Lookup: TypeAlias = nodes.Getattr | nodes.Getitem
ROOTS = ("steps", "params", "vars", "run", "item")
_LONGEST_RESULT = 10_000
_LONGEST_TEXT = 1_000
_BIGGEST_POWER = 1000
_FILTERS = (
    "abs", "count", "d", "default", "first", "float", "int", "join", "last", "length", "lower",
    "max", "min", "replace", "round", "sort", "string", "sum", "tojson", "trim", "unique", "upper",
)  # fmt: skip
_WHOLE = re.compile(r"\s*\{\{(?P<expression>.*)\}\}\s*", re.DOTALL)


class _Environment(ImmutableSandboxedEnvironment):
    """Dots look up keys only: ``body.items`` is the key, never a method of dict.

    Nothing in it can be called, and it knows the filters alone that it is given.
    """

    intercepted_binops = frozenset(["**", "*", "%"])

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, Mapping):
            return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
        return super().getattr(obj, attribute)

    def is_safe_callable(self, obj: Any) -> bool:
        return False

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if not all(isinstance(side, (int, float)) for side in (left, right)):
            raise errors.TemplateError(f"{operator} is for numbers only")
        if operator == "**" and (abs(left) > _BIGGEST_POWER or abs(right) > _BIGGEST_POWER):
            raise errors.TemplateError(f"{left} ** {right} is too large for an expression")
        return super().call_binop(context, operator, left, right)


def sandbox(*more: str, **options: Any) -> ImmutableSandboxedEnvironment:
    """Return an environment with the filters of expressions, and ``more`` of Jinja's own."""
    made = _Environment(undefined=StrictUndefined, autoescape=False, **options)
    made.globals.clear()
    made.filters = {name: made.filters[name] for name in (*_FILTERS, *more)}
    return made


_environment = sandbox()


def is_template(text: str) -> bool:
    """Return whether the text contains an expression."""
    return "{{" in text or "{%" in text or "{#" in text


def has_expression(value: Any) -> bool:
    """Return whether an expression stands anywhere in the value."""
    if isinstance(value, str):
        return is_template(value)
    if isinstance(value, Mapping):
        return any(has_expression(item) for item in value.values())
    return isinstance(value, (list, tuple)) and any(has_expression(item) for item in value)


def render(value: Any, names: Mapping[str, Any]) -> Any:
    """Return the value with every expression in it evaluated, through lists and mappings.

    Raises errors.TemplateError, naming the expression.
    """
    if isinstance(value, str):
        return _render_text(value, names) if is_template(value) else value
    if isinstance(value, Mapping):
        return {key: render(item, names) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [render(item, names) for item in value]
    return value


def references(value: Any, roots: Sequence[str] = ROOTS) -> Iterator[tuple[str, str]]:
    """Yield ``(root, name)`` for each reference, such as ``("steps", "level")``.

    Raises errors.TemplateError for a syntax error or a root or name that is not written out.
    """
    if isinstance(value, str) and is_template(value):
        yield from _references_in(value, roots)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(key, str) and is_template(key):
                raise errors.TemplateError(f"{key!r}: an expression cannot be a key")
            yield from references(item, roots)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from references(item, roots)


def _parse(text: str) -> nodes.Template:
    if "{%" in text or "{#" in text:
        raise errors.TemplateError(
            f"{text!r}: only {{{{ expressions }}}} are allowed, no statements"
        )
    if re.search(r"\{\{[-+]|[-+]\}\}", text):
        # Jinja reads {{- 5 }} as "cut blanks, then 5": a sign that silently gets lost.
        raise errors.TemplateError(f"{text!r}: write a blank between the braces and a sign")
    if len(text) > _LONGEST_TEXT:
        raise errors.TemplateError(f"{text[:40]!r}...: longer than {_LONGEST_TEXT} characters")
    try:
        return _environment.parse(text)
    except TemplateSyntaxError as error:
        raise errors.TemplateError(f"{text!r}: {error.message}") from None
    except RecursionError:
        raise errors.TemplateError(f"{text[:40]!r}...: too deeply nested") from None


def _render_text(text: str, names: Mapping[str, Any]) -> Any:
    whole = len(list(_parse(text).find_all(nodes.Output))) == 1 and _single_expression(text)
    try:
        if whole:
            compiled = _environment.compile_expression(whole, undefined_to_none=False)
            result = compiled(**names)
            if isinstance(result, Undefined):
                str(result)  # a StrictUndefined raises its own message here
        else:
            result = _environment.from_string(text).render(**names)
        _check_result(result)
    except errors.TemplateError as error:
        raise errors.TemplateError(f"{text!r}: {error}") from None
    except (
        TemplateError,
        ArithmeticError,
        LookupError,
        MemoryError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise errors.TemplateError(f"{text!r}: {error}") from None
    return result


def _check_result(result: Any) -> None:
    """Raise when an expression gives no JSON value, or one that is too large."""
    if not isinstance(result, (bool, int, float, str, list, tuple, dict, type(None))):
        raise errors.TemplateError(f"gives a {type(result).__name__}, which is no JSON value")
    if isinstance(result, (int, str)) and len(str(result)) > _LONGEST_RESULT:
        raise errors.TemplateError(f"gives more than {_LONGEST_RESULT} characters")


def _single_expression(text: str) -> str | None:
    match = _WHOLE.fullmatch(text)
    if match is None:
        return None
    output = next(_parse(text).find_all(nodes.Output))
    parts = [part for part in output.nodes if not _is_blank(part)]
    return match["expression"] if len(parts) == 1 else None


def _is_blank(node: nodes.Expr) -> bool:
    return isinstance(node, nodes.TemplateData) and not node.data.strip()


def _references_in(text: str, roots: Sequence[str]) -> Iterator[tuple[str, str]]:
    tree = _parse(text)
    try:
        _environment.from_string(text)  # knows which filters there are
    except TemplateError as error:
        raise errors.TemplateError(f"{text!r}: {error}") from None
    named: set[int] = set()
    lookups = cast(Iterator[_Lookup], tree.find_all((nodes.Getattr, nodes.Getitem)))
    for node in lookups:
        if isinstance(node.node, nodes.Name) and (name := _literal_name(node)) is not None:
            named.add(id(node.node))
            yield node.node.name, name
    for name_node in tree.find_all(nodes.Name):
        if name_node.name not in roots:
            known = " or ".join(f"{root}." for root in roots).replace(" or ", ", ", len(roots) - 2)
            raise errors.TemplateError(
                f"{text!r}: {name_node.name!r} is unknown; expressions start with {known}"
            )
        if id(name_node) not in named:
            raise errors.TemplateError(
                f"{text!r}: write the name after {name_node.name} out, as in {name_node.name}.name"
            )


def _literal_name(node: _Lookup) -> str | None:
    if isinstance(node, nodes.Getattr):
        return node.attr
    return str(node.arg.value) if isinstance(node.arg, nodes.Const) else None
