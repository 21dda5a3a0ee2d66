"""Alembic's entry: runs the migrations on the connection that ``schema.migrate`` gives."""

from __future__ import annotations

from alembic import context

from smartops.audit.models import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
