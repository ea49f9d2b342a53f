"""Keys that sign evidence packs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create `signing_keys`."""
    op.create_table(
        "signing_keys",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("public_pem", sa.String(), nullable=False),
        sa.Column("private_pem", sa.String()),
        sa.Column("turn", sa.String(8), unique=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("retired_at", sa.DateTime()),
        sa.CheckConstraint("(turn IS NULL) = (retired_at IS NOT NULL)", name="one_key_signs"),
        sa.CheckConstraint("retired_at IS NULL OR private_pem IS NULL", name="retired_keys_are_public"),
    )


def downgrade() -> None:
    """Take it away."""
    op.drop_table("signing_keys")
