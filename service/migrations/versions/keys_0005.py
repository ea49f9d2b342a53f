"""Who may use the service: keys, and whose each analysis and each feed is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TABLES = ("analyses", "feeds")


def upgrade() -> None:
    """Create `keys`; give analyses and feeds a tenant, within which an idempotency key is unique."""
    op.create_table(
        "keys",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("secret_sha256", sa.String(64), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("scopes", sa.String(200), nullable=False),
        sa.Column("parent", sa.String(16)),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("expires_at", sa.DateTime()),
        sa.Column("revoked_at", sa.DateTime()),
    )
    for name in TABLES:
        # Earlier migrations left the naming to the database, and SQLite gives no name at all.
        with op.batch_alter_table(name, naming_convention={"uq": "%(table_name)s_%(column_0_name)s_key"}) as table:
            table.add_column(sa.Column("tenant", sa.String(64), nullable=False, server_default="default"))
            table.drop_constraint(f"{name}_idempotency_key_key", type_="unique")
            table.create_unique_constraint(f"{name}_idempotency_key_of_tenant", ["tenant", "idempotency_key"])
            table.create_index(f"{name}_by_tenant", ["tenant", "id"])


def downgrade() -> None:
    """Take them away."""
    for name in TABLES:
        with op.batch_alter_table(name) as table:
            table.drop_index(f"{name}_by_tenant")
            table.drop_constraint(f"{name}_idempotency_key_of_tenant", type_="unique")
            table.create_unique_constraint(f"{name}_idempotency_key_key", ["idempotency_key"])
            table.drop_column("tenant")
    op.drop_table("keys")
