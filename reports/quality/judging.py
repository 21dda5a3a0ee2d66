"""Lets Great Expectations judge rows. Importing this is cheap; using it loads the library.

The library runs on an ephemeral context: it keeps nothing, reads no configuration, and tells
nobody. It is only ever used in a process of its own (reports/quality/child.py).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from reports.quality.results import (
    BadRow,
    Found,
    Result,
    in_words,
    not_looked_at,
    of_rows,
    of_whole,
)
from reports.quality.suite import Dataset, Expectation, Suite
from smartops.errors import BadInput

if TYPE_CHECKING:
    import pandas as pd

MOST_LISTED = 10_000
"""How many bad rows of a query are kept with their values; of rows that are given all are."""
Rows = Sequence[Mapping[str, Any]]
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)")


def load_library() -> Any:
    """Import Great Expectations, with what it would tell its makers turned off before."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations  # noqa: PLC0415 - it takes seconds, and few programs need it

    return great_expectations


def judge(suite: Suite, revision: str, rows: Mapping[str, tuple[Sequence[str], Rows]]) -> Found:
    """Return what is found in the rows; ``rows`` has columns and rows of each dataset.

    Raises BadInput for an expectation that the library does not take as it is.
    """
    library = load_library()
    began = time.perf_counter()
    context = library.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    source = context.data_sources.add_pandas("rows")
    results: list[Result] = []
    bad: list[BadRow] = []
    not_listed = 0
    for dataset in suite.datasets:
        columns, found = rows[dataset.name]
        whole = frame(columns, found, dataset)
        reasons: dict[int, list[str]] = {}
        for number, expected in enumerate(dataset.expectations):
            asset = source.add_dataframe_asset(f"{dataset.name}-{number}")
            part = _part(whole, expected)
            result, numbers = _look(asset, part, dataset, expected)
            apart = numbers if expected.quarantine else []
            new = len(set(apart) - reasons.keys())
            results.append(replace(result, quarantined=new))
            for row in apart:
                reasons.setdefault(row, []).append(expected.message or in_words(expected))
        listed = sorted(reasons)[: MOST_LISTED if dataset.query else None]
        bad += [BadRow(dataset.name, n, dict(found[n]), reasons[n]) for n in listed]
        not_listed += len(reasons) - len(listed)
    return Found(
        suite.name,
        revision,
        {name: len(found) for name, (_, found) in rows.items()},
        results,
        bad,
        round(time.perf_counter() - began, 4),
        not_listed,
    )


def frame(columns: Sequence[str], rows: Rows, dataset: Dataset) -> pd.DataFrame:
    """Return rows as a table. Without any, it has the columns that are expected.

    Times that are written as text, as readings have them, become times.
    """
    import pandas as pd  # noqa: PLC0415 - as slow as the library above

    expected = [name for one in dataset.expectations for name in [*one.columns, *one.where]]
    known = list(dict.fromkeys([*columns, *(() if rows else expected)]))
    whole = pd.DataFrame.from_records([dict(row) for row in rows], columns=known)
    for name in whole.columns:
        texts = whole[name].dropna()
        if len(texts) and all(isinstance(text, str) and _TIME.fullmatch(text) for text in texts):
            whole[name] = pd.to_datetime(whole[name], utc=True, format="ISO8601")
    return whole


def _part(whole: pd.DataFrame, expected: Expectation) -> pd.DataFrame:
    """Return the rows that an expectation is about; they keep their numbers."""
    for name, wanted in expected.where.items():
        if name in whole.columns:
            whole = whole[whole[name].isin(wanted if isinstance(wanted, list) else [wanted])]
    return whole


def _look(
    asset: Any, part: pd.DataFrame, dataset: Dataset, expected: Expectation
) -> tuple[Result, list[int]]:
    """Return how an expectation is met, and the numbers of the rows that do not meet it."""
    if missing := [name for name in expected.where if name not in part.columns]:
        return not_looked_at(dataset, expected, len(part), f"no column {missing[0]!r}"), []
    batch = asset.add_batch_definition_whole_dataframe("whole").get_batch({"dataframe": part})
    verdict = batch.validate(_configured(expected), result_format="COMPLETE")
    if why := _exception(verdict.exception_info):
        return not_looked_at(dataset, expected, len(part), why), []
    if not expected.of_rows:
        observed = verdict.result.get("observed_value")
        done = of_whole(
            dataset, expected, len(part), holds=bool(verdict.success), observed=observed
        )
        return done, []
    numbers = [int(number) for number in verdict.result.get("unexpected_index_list") or []]
    return of_rows(dataset, expected, len(part), len(numbers)), numbers


def _configured(expected: Expectation) -> Any:
    from great_expectations.expectations.expectation_configuration import (  # noqa: PLC0415
        ExpectationConfiguration,
    )

    try:
        return ExpectationConfiguration(
            type=f"expect_{expected.expect}", kwargs=expected.args
        ).to_domain_obj()
    except (ValueError, TypeError) as error:
        said = " ".join(str(error).split())
        raise BadInput(f"{expected.expect}: {said}") from None


def _exception(info: Mapping[str, Any]) -> str | None:
    """Return why the library could not look, in one line."""
    for told in [info, *info.values()]:
        if isinstance(told, Mapping) and told.get("raised_exception"):
            return " ".join(str(told["exception_message"]).split()).removeprefix("Error: ")
    return None
