"""Cameras that the service watches by itself, and their alerts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create `feeds` and `alerts`."""
    op.create_table(
        "feeds",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("name", sa.String(200)),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("hz", sa.Double()),
        sa.Column("rule", sa.String(), nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("idempotency_key", sa.String(255), unique=True),
        sa.Column("request_sha256", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("event_seq", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("alerts", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("owner", sa.String(64)),
        sa.Column("lease_until", sa.DateTime()),
    )
    op.create_table(
        "alerts",
        sa.Column("feed_id", sa.String(36), sa.ForeignKey("feeds.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("n", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("session_id", sa.String(64), nullable=False),
        sa.Column("track", sa.BigInteger(), nullable=False),
        sa.Column("base_numerator", sa.BigInteger(), nullable=False),
        sa.Column("base_denominator", sa.BigInteger(), nullable=False),
        sa.Column("began_pts", sa.BigInteger(), nullable=False),
        sa.Column("last_pts", sa.BigInteger(), nullable=False),
        sa.Column("peak_pts", sa.BigInteger(), nullable=False),
        sa.Column("peak", sa.Double(), nullable=False),
        sa.Column("longest_s", sa.Double(), nullable=False),
        sa.Column("cause", sa.String(16)),
        sa.Column("told_at", sa.DateTime(), nullable=False),
        sa.Column("ended_at", sa.DateTime()),
        sa.CheckConstraint("(cause IS NULL) = (ended_at IS NULL)", name="cause_if_ended"),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("alerts")
    op.drop_table("feeds")
