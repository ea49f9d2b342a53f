"""How often an analysis was begun in vain: what kills its worker is not to kill all of them for ever."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add attempts to `analyses`."""
    with op.batch_alter_table("analyses") as analyses:
        analyses.add_column(sa.Column("attempts", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    """Take it away."""
    with op.batch_alter_table("analyses") as analyses:
        analyses.drop_column("attempts")
