"""Who may use the service: keys, and whose each analysis is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create `keys`; give analyses a tenant, within which an idempotency key is unique."""
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
    # The first migration left the naming to the database.
    made_up = "uq_analyses_idempotency_key" if op.get_bind().dialect.name == "sqlite" else "analyses_idempotency_key_key"
    with op.batch_alter_table("analyses", naming_convention={"uq": "uq_%(table_name)s_%(column_0_name)s"}) as analyses:
        analyses.add_column(sa.Column("tenant", sa.String(64), nullable=False, server_default="default"))
        analyses.drop_constraint(made_up, type_="unique")
        analyses.create_unique_constraint("idempotency_key_of_tenant", ["tenant", "idempotency_key"])
        analyses.create_index("analyses_by_tenant", ["tenant", "id"])


def downgrade() -> None:
    """Take them away."""
    with op.batch_alter_table("analyses") as analyses:
        analyses.drop_index("analyses_by_tenant")
        analyses.drop_constraint("idempotency_key_of_tenant", type_="unique")
        analyses.create_unique_constraint("analyses_idempotency_key_key", ["idempotency_key"])
        analyses.drop_column("tenant")
    op.drop_table("keys")
