"""Reusable steps: thin, audited Prefect tasks around one call of the core each."""

from tasks.step import current_record, step

__all__ = ["current_record", "step"]
