"""The expectations that a suite may have: those of Great Expectations that need no database.

One row for each: its name without ``expect_``, what it has to be told, and what it may be told.
Here and not asked of the library, as to import that takes seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Kind:
    """What an expectation is about, and what it takes."""

    of_rows: bool
    """Whether it tells the rows that do not meet it, and not only that something does not."""
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Which of its arguments name columns."""
        named = ("column", "column_A", "column_B", "column_list", "column_set")
        return tuple(name for name in (*self.required, *self.optional) if name in named)


_LIMITS = ("min_value", "max_value", "strict_min", "strict_max")
_PAIR = ("column_A", "column_B")
_UNLESS = ("ignore_row_if",)

KINDS: Mapping[str, Kind] = {
    # --- each row, by one column; an empty value is looked at by the first two alone ------------
    "column_values_to_not_be_null": Kind(True, ("column",)),
    "column_values_to_be_null": Kind(True, ("column",)),
    "column_values_to_be_between": Kind(True, ("column",), _LIMITS),
    "column_values_to_be_in_set": Kind(True, ("column", "value_set")),
    "column_values_to_not_be_in_set": Kind(True, ("column", "value_set")),
    "column_values_to_be_unique": Kind(True, ("column",)),
    "column_values_to_be_increasing": Kind(True, ("column",), ("strictly",)),
    "column_values_to_be_decreasing": Kind(True, ("column",), ("strictly",)),
    "column_values_to_match_regex": Kind(True, ("column", "regex")),
    "column_values_to_not_match_regex": Kind(True, ("column", "regex")),
    "column_values_to_match_regex_list": Kind(True, ("column", "regex_list"), ("match_on",)),
    "column_values_to_not_match_regex_list": Kind(True, ("column", "regex_list")),
    "column_values_to_match_strftime_format": Kind(True, ("column", "strftime_format")),
    "column_values_to_be_dateutil_parseable": Kind(True, ("column",)),
    "column_values_to_be_json_parseable": Kind(True, ("column",)),
    "column_values_to_match_json_schema": Kind(True, ("column", "json_schema")),
    "column_value_lengths_to_be_between": Kind(True, ("column",), _LIMITS),
    "column_value_lengths_to_equal": Kind(True, ("column", "value")),
    "column_value_z_scores_to_be_less_than": Kind(True, ("column", "threshold", "double_sided")),
    # --- each row, by several columns -----------------------------------------------------------
    "column_pair_values_a_to_be_greater_than_b": Kind(True, _PAIR, ("or_equal", *_UNLESS)),
    "column_pair_values_to_be_equal": Kind(True, _PAIR, _UNLESS),
    "column_pair_values_to_be_in_set": Kind(True, (*_PAIR, "value_pairs_set"), _UNLESS),
    "compound_columns_to_be_unique": Kind(True, ("column_list",), _UNLESS),
    "select_column_values_to_be_unique_within_record": Kind(True, ("column_list",), _UNLESS),
    "multicolumn_sum_to_equal": Kind(True, ("column_list", "sum_total"), _UNLESS),
    "multicolumn_values_to_be_equal": Kind(True, ("column_list",), _UNLESS),
    # --- a column as a whole --------------------------------------------------------------------
    "column_min_to_be_between": Kind(False, ("column",), _LIMITS),
    "column_max_to_be_between": Kind(False, ("column",), _LIMITS),
    "column_mean_to_be_between": Kind(False, ("column",), _LIMITS),
    "column_median_to_be_between": Kind(False, ("column",), _LIMITS),
    "column_stdev_to_be_between": Kind(False, ("column",), _LIMITS),
    "column_sum_to_be_between": Kind(False, ("column",), _LIMITS),
    "column_quantile_values_to_be_between": Kind(
        False, ("column", "quantile_ranges"), ("allow_relative_error",)
    ),
    "column_unique_value_count_to_be_between": Kind(False, ("column",), _LIMITS),
    "column_proportion_of_unique_values_to_be_between": Kind(False, ("column",), _LIMITS),
    "column_proportion_of_non_null_values_to_be_between": Kind(False, ("column",), _LIMITS),
    "column_distinct_values_to_be_in_set": Kind(False, ("column", "value_set")),
    "column_distinct_values_to_contain_set": Kind(False, ("column", "value_set")),
    "column_distinct_values_to_equal_set": Kind(False, ("column", "value_set")),
    "column_most_common_value_to_be_in_set": Kind(False, ("column", "value_set"), ("ties_okay",)),
    "column_to_exist": Kind(False, ("column",)),
    # --- the table ------------------------------------------------------------------------------
    "table_row_count_to_be_between": Kind(False, (), _LIMITS),
    "table_row_count_to_equal": Kind(False, ("value",)),
    "table_columns_to_match_set": Kind(False, ("column_set",), ("exact_match",)),
    "table_columns_to_match_ordered_list": Kind(False, ("column_list",)),
}


def problem(expect: str, given: Mapping[str, Any]) -> str | None:
    """Return what is wrong with an expectation in one line, None where nothing is."""
    kind = KINDS.get(expect)
    if kind is None:
        plain = expect.removeprefix("expect_")
        if plain in KINDS:
            return f"write {plain!r}, without `expect_`"
        return f"unknown expectation {expect!r}; docs/how-to/quality.md lists them"
    known = (*kind.required, *kind.optional)
    if unknown := [name for name in given if name not in known]:
        return f"{expect} takes no {unknown[0]!r} (it takes: {', '.join(known)})"
    if missing := [name for name in kind.required if name not in given]:
        return f"{expect} needs {missing[0]!r}"
    limits = [name for name in ("min_value", "max_value") if name in known]
    if limits and not any(given.get(name) is not None for name in limits):
        return f"{expect} needs a min_value or a max_value"
    return None
