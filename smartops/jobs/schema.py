"""The JSON Schema of job files: editors complete and check them by it."""

from __future__ import annotations

from typing import Any

from smartops.jobs.spec import JobSpec

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def job_schema() -> dict[str, Any]:
    """Return the JSON Schema of a job file, with the sentence of each field."""
    schema = JobSpec.model_json_schema()
    for model in schema["$defs"].values():
        undo = model.get("properties", {}).get("undo")
        if undo is not None:
            undo.pop("anyOf", None)
            undo["oneOf"] = [{"type": "object", "required": ["kind"]}, {"type": "null"}]
    return {"$schema": DIALECT, **schema}
