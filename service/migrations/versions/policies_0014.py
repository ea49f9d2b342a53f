"""What reviewers decide by: every version of each tenant's policy; and indexes by time for the numbers of the lead."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

ON_SQLITE = tuple(
    f"CREATE TRIGGER policies_no_{what.lower()} BEFORE {what} ON policies BEGIN SELECT RAISE(ABORT, 'policies is append-only'); END"
    for what in ("UPDATE", "DELETE")
)
ON_POSTGRESQL = (
    "CREATE FUNCTION policies_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'policies is append-only'; END $$",
    "CREATE TRIGGER policies_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON policies "
    "FOR EACH STATEMENT EXECUTE FUNCTION policies_is_append_only()",
)


def upgrade() -> None:
    """Create `policies`, which only grows; index `reviews` and `analyses` by time."""
    op.create_table(
        "policies",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("version", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("author", sa.String(255), nullable=False),
        sa.Column("author_name", sa.String(320), nullable=False),
    )
    sqlite = op.get_bind().dialect.name == "sqlite"
    for statement in ON_SQLITE if sqlite else ON_POSTGRESQL:
        op.execute(statement)
    op.create_index("reviews_by_time", "reviews", ["tenant", "at"])
    op.create_index("analyses_by_end", "analyses", ["tenant", "finished_at"])


def downgrade() -> None:
    """Take them away."""
    op.drop_index("analyses_by_end", "analyses")
    op.drop_index("reviews_by_time", "reviews")
    op.drop_table("policies")
    if op.get_bind().dialect.name != "sqlite":
        op.execute("DROP FUNCTION policies_is_append_only()")
