"""How many rows a check of data has kept apart; checks of all suites by time."""

from __future__ import annotations

import sqlalchemy as sa

from smartops.audit.migrations.resumable import (
    add_columns,
    create_index,
    drop_columns,
    drop_index,
)

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    add_columns("quality_result", sa.Column("quarantined", sa.BigInteger, nullable=True))
    create_index("quality_result", "at")


def downgrade() -> None:
    """Take back. What goes is derived from the events again."""
    drop_index("quality_result", "at")
    drop_columns("quality_result", "quarantined")
