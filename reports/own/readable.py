"""Which tables a report's query may read, and whether one keeps to that. Pure.

The database itself refuses what changes anything (``reports.own_query``), on SQLite also every
other table. MySQL and MariaDB know grants by user only: there this reading of the text is what
keeps a query to the tables below. What it cannot read for sure, it refuses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

READABLE = frozenset(
    {
        "alert", "alert_answer", "alert_delivery", "approval", "artifact", "child_run", "decision",
        "device_change", "device_command", "device_exchange", "hold", "job_change", "job_revision",
        "job_run", "lock_wait", "log_line", "quality_result", "reading", "report", "rollup_run",
        "rollup_step", "run_process", "slot", "step_run",
    }
)  # fmt: skip
"""What people may build on: the record as it is told. The events themselves, seals, what is kept
of reports, and what services note for themselves have shapes of their own and are left out."""

_TOKEN = re.compile(
    r"(?P<blank>[ \t\r\n]+|--(?=[ \t\r\n]|$)[^\n]*)"
    r"|(?P<text>'(?:[^'\\]|'')*')"
    r"|(?P<quoted>`[^`]+`|\"[^\"\\]+\")"
    r"|(?P<word>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<number>(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?(?![\w.$]))"
    r"|(?P<sign>[-+*/%(),.<>=:;&|~^!])"
)
"""Whatever databases read in different ways is none of these: backslashes, ``/*``, ``#``, ``@``,
names that begin with a digit or are not ASCII."""
_END_OF_TABLES = frozenset({"select", "where", "group", "having", "order", "limit"})
"""Reserved everywhere: none of them can be the name that a table is given."""
_REFUSED = {
    "into": "a query writes nowhere",
    "table": "name the table after FROM",
    "for": "a query locks nothing",
    "load_file": "a query reads no files",
    "load_extension": "a query loads nothing",
    "sleep": "a query waits for nothing",
    "benchmark": "a query waits for nothing",
    "get_lock": "a query locks nothing",
    "lock": "a query locks nothing",
    "procedure": "a query calls nothing",
}


class Token(NamedTuple):
    """A word (in lower case), a name (in quotes or after a dot), a sign, a text or a number."""

    kind: str
    text: str


_OPENS, _CLOSES, _DOT, _ENDS = (Token("sign", sign) for sign in "().;")
_NO_TABLE = frozenset(Token("word", word) for word in ("select", "with", "lateral"))


class Level:
    """What a pair of parentheses is: one SELECT, the tables of a join, or arguments."""

    def __init__(self, *, wants_table: bool = False) -> None:
        self.selects = False
        self.among_tables = wants_table
        self.wants_table = wants_table


def problem(query: str) -> str:
    """Return why a query may not be asked, "" where it may."""
    tokens, rest = _tokens(query)
    if rest:
        return f"cannot be read from {rest[:20]!r} on; comments begin with -- and a blank"
    if tokens and tokens[-1] == _ENDS:
        tokens.pop()
    if not tokens or tokens[0] not in {Token("word", "select"), Token("word", "with")}:
        return "a query begins with SELECT or WITH"
    for token in tokens:
        if token.kind == "word" and token.text in _REFUSED:
            return f"{token.text.upper()}: {_REFUSED[token.text]}"
        if token == _ENDS:
            return "one statement is wanted"
    own = own_names(tokens)
    for name in tables(tokens):
        if name not in READABLE and name not in own:
            return f"table {name} may not be read; there are: {', '.join(sorted(READABLE))}"
    return ""


def names_of_with(query: str) -> set[str]:
    """Return the names that a query gives to its own WITH parts."""
    return own_names(_tokens(query)[0])


def _tokens(query: str) -> tuple[list[Token], str]:
    """Return the tokens of a query, and what cannot be read. What follows a dot is no keyword."""
    found: list[Token] = []
    at = 0
    while at < len(query):
        match = _TOKEN.match(query, at)
        if match is None or query.startswith("/*", at):
            return found, query[at:]
        at = match.end()
        kind, text = str(match.lastgroup), match[0]
        if kind == "word":
            after_dot = bool(found) and found[-1] == _DOT
            found.append(Token("name" if after_dot else "word", text.lower()))
        elif kind == "quoted":
            found.append(Token("name", text[1:-1]))
        elif kind != "blank":
            found.append(Token(kind, text))
    return found, ""


def own_names(tokens: list[Token]) -> set[str]:
    """Return the names before ``AS (``, with or without columns: those of WITH."""
    found: set[str] = set()
    for number, token in enumerate(tokens[:-1]):
        if token != Token("word", "as") or tokens[number + 1] != _OPENS:
            continue
        before = number - 1
        if before >= 0 and tokens[before] == _CLOSES:
            while before >= 0 and tokens[before] != _OPENS:
                before -= 1
            before -= 1
        if before >= 0 and tokens[before].kind in {"word", "name"}:
            found.add(tokens[before].text)
    return found


def tables(tokens: list[Token]) -> Iterator[str]:
    """Yield the name of each table that a query reads, also within others; a dotted one whole."""
    levels = [Level()]
    number = 0
    while number < len(tokens):
        token, level = tokens[number], levels[-1]
        if token == _OPENS:
            levels.append(Level(wants_table=level.wants_table))
            level.wants_table = False
        elif token == _CLOSES:
            levels = levels[:-1] or [Level()]
        elif level.wants_table and token not in _NO_TABLE:
            name, number = _whole_name(tokens, number)
            level.wants_table = False
            yield name
        else:
            _step(level, token)
        number += 1


def _step(level: Level, token: Token) -> None:
    if token.kind == "sign":
        level.wants_table = token.text == "," and level.among_tables
        return
    if token.kind != "word":
        return
    if token.text in _END_OF_TABLES:
        level.among_tables = level.wants_table = False
        level.selects = level.selects or token.text == "select"
    elif token.text == "with":
        level.among_tables = level.wants_table = False
    elif token.text == "from" and level.selects:
        level.among_tables = level.wants_table = True
    elif token.text in {"join", "straight_join"} and level.among_tables:
        level.wants_table = True


def _whole_name(tokens: list[Token], number: int) -> tuple[str, int]:
    """Return a name with what follows it after dots, and where it ends."""
    name = tokens[number].text
    while number + 2 < len(tokens) and tokens[number + 1] == _DOT:
        number += 2
        name = f"{name}.{tokens[number].text}"
    return name, number
