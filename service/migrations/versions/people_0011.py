"""Who signed in through an issuer: sessions without a key, and names that are e-mail addresses."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add `subject` to `keys`, and an index by tenant; make room for long names; let what a tenant has be counted quickly."""
    with op.batch_alter_table("keys") as keys:
        keys.add_column(sa.Column("subject", sa.String(255)))
        keys.alter_column("name", type_=sa.String(320), existing_type=sa.String(100), existing_nullable=False)
        keys.create_index("keys_by_tenant", ["tenant", "created_at", "id"])
    op.create_index("analyses_held_by_tenant", "analyses", ["tenant", "status", "size_bytes"])


def downgrade() -> None:
    """Take them away; the sessions with them, which nothing would tell from keys."""
    op.drop_index("analyses_held_by_tenant", "analyses")
    op.execute("DELETE FROM keys WHERE subject IS NOT NULL")
    with op.batch_alter_table("keys") as keys:
        keys.drop_index("keys_by_tenant")
        keys.alter_column("name", type_=sa.String(100), existing_type=sa.String(320), existing_nullable=False)
        keys.drop_column("subject")
