"""Long-running processes beside the Prefect server: the worker, the recorder, the whole stack."""
