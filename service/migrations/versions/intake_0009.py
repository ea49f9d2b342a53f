"""Where media came from, what an idempotency key stands for, and what makes two analyses of one file the same."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add source_url, request_sha256 and recipe to `analyses`, and an index by media."""
    with op.batch_alter_table("analyses") as analyses:
        analyses.add_column(sa.Column("source_url", sa.String()))
        analyses.add_column(sa.Column("request_sha256", sa.String(64)))
        analyses.add_column(sa.Column("recipe", sa.String(64)))
    op.create_index("analyses_by_media", "analyses", ["sha256", "recipe"])


def downgrade() -> None:
    """Take them away."""
    op.drop_index("analyses_by_media", "analyses")
    with op.batch_alter_table("analyses") as analyses:
        for name in ("recipe", "request_sha256", "source_url"):
            analyses.drop_column(name)
