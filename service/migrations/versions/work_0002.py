"""What several replicas must know of one another's work: how far it is, who does it, who lives."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add progress, version, priority and replica to `analyses`; create `replicas`."""
    with op.batch_alter_table("analyses") as analyses:
        analyses.add_column(sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
        analyses.add_column(sa.Column("version", sa.Integer(), nullable=False, server_default="0"))
        analyses.add_column(sa.Column("progress", sa.String()))
        analyses.add_column(sa.Column("replica", sa.String(64)))
    op.create_table(
        "replicas",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("started_at", sa.DateTime(), nullable=False),
        sa.Column("seen_at", sa.DateTime(), nullable=False),
    )


def downgrade() -> None:
    """Take them away."""
    op.drop_table("replicas")
    with op.batch_alter_table("analyses") as analyses:
        for name in ("replica", "progress", "version", "priority"):
            analyses.drop_column(name)
