"""What an alert has as evidence."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

COLUMNS = ("clip_last_pts", "clip_first_pts", "clip_bytes", "still_bytes")


def upgrade() -> None:
    """Add sizes of still and clip, and which pictures the clip shows."""
    with op.batch_alter_table("alerts") as alerts:
        alerts.add_column(sa.Column("still_bytes", sa.BigInteger(), nullable=False, server_default="0"))
        alerts.add_column(sa.Column("clip_bytes", sa.BigInteger(), nullable=False, server_default="0"))
        alerts.add_column(sa.Column("clip_first_pts", sa.BigInteger()))
        alerts.add_column(sa.Column("clip_last_pts", sa.BigInteger()))


def downgrade() -> None:
    """Take them away."""
    with op.batch_alter_table("alerts") as alerts:
        for name in COLUMNS:
            alerts.drop_column(name)
