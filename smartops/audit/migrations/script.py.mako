"""${message}."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from smartops.audit.models import OPTIONS, Id, LongText, UtcTime

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    ${upgrades if upgrades else "raise RuntimeError('write me')"}


def downgrade() -> None:
    """Take back."""
    ${downgrades if downgrades else "raise RuntimeError('write me')"}
