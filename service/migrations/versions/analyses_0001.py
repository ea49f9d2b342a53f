"""The table of analyses."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create `analyses` and its indexes."""
    op.create_table(
        "analyses",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("verdict", sa.String(16)),
        sa.Column("sentence", sa.String()),
        sa.Column("p", sa.Double()),
        sa.Column("external_id", sa.String(200)),
        sa.Column("filename", sa.String(255)),
        sa.Column("media_type", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("idempotency_key", sa.String(255), unique=True),
        sa.Column("problem", sa.String()),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("started_at", sa.DateTime()),
        sa.Column("finished_at", sa.DateTime()),
        sa.CheckConstraint("status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')", name="status_is_known"),
        sa.CheckConstraint("(verdict IS NOT NULL) = (status = 'succeeded')", name="verdict_if_succeeded"),
    )
    op.create_index("analyses_by_status", "analyses", ["status", "id"])
    op.create_index("analyses_by_verdict", "analyses", ["verdict", "id"])


def downgrade() -> None:
    """Drop it."""
    op.drop_table("analyses")
