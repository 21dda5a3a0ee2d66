"""The process of a ``python.call`` step: reads a call on stdin, writes its result to a file.

``python -m smartops.jobs.python_child RESULT_FILE``. What the function prints goes to the log.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import sys
import traceback
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError, validate_call


def call(function: str, args: dict[str, Any]) -> Any:
    """Return the function's result as JSON holds it; its arguments are checked by its hints.

    Raises what it raises; TypeError or pydantic's ValidationError for wrong arguments.
    """
    module, _, name = function.partition(":")
    target = getattr(importlib.import_module(module), name)
    returns = inspect.signature(target, eval_str=True).return_annotation
    checked = validate_call(config={"strict": False})(target)
    result = checked(**args)
    if inspect.iscoroutine(result):
        result = asyncio.run(_awaited(result))
    adapter = TypeAdapter(Any if returns is inspect.Signature.empty else returns)
    return adapter.dump_python(adapter.validate_python(result), mode="json")


async def _awaited(result: Any) -> Any:
    return await result


def main() -> None:
    """Make the call that stands on stdin."""
    asked = json.load(sys.stdin)
    answer: dict[str, Any]
    try:
        answer = {"value": call(asked["function"], asked["args"])}
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        answer = {"error": f"{where}: {first['msg']}", "class": "BadInput"}
    except BaseException as error:  # noqa: BLE001 - it is told to the step that asked
        traceback.print_exc()
        names = [cls.__name__ for cls in type(error).__mro__]
        answer = {"error": str(error) or type(error).__name__, "class": names[0], "mro": names}
    Path(sys.argv[1]).write_text(json.dumps(answer), "utf-8")


if __name__ == "__main__":
    main()
