"""YAML as people mean it, for job files and tag maps."""

from __future__ import annotations

import re
from typing import Any

import yaml

_REPLACED = tuple(f"tag:yaml.org,2002:{t}" for t in ("bool", "int", "float", "timestamp"))


class PlainLoader(yaml.SafeLoader):
    """Safe YAML in which ``on`` is a word, ``12:30`` a text, and a key cannot be given twice.

    YAML 1.1 reads on, off, yes and no as true and false, 12:30 as 750, 010 as 8, a date as an
    object that JSON has not, and takes the last of two equal keys.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML says what it is
        first: [(tag, regexp) for tag, regexp in resolvers if tag not in _REPLACED]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuse aliases: a few nested ones expand to gigabytes."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.constructor.ConstructorError(None, None, "no *aliases here", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse keys that are no words, or given twice."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = key_node.value
            problem = ""
            if not isinstance(key_node, yaml.ScalarNode):
                problem = "a key must be a word"
            elif key in seen:
                problem = f"key {key!r} is given twice"
            if problem:
                mark = key_node.start_mark
                raise yaml.constructor.ConstructorError(None, None, problem, mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


for _tag, _pattern, _first in (
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)\Z", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)\Z", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?\Z",
        "-+0123456789.",
    ),
):
    PlainLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first)
    )


def plain_value(text: str, kind: type[PlainLoader] = PlainLoader) -> Any:
    """Return what a text means: 150, true, a word, [1, 2]. Raises yaml.YAMLError."""
    loader = kind(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()
