"""What people decide: where each analysis stands at the desk, and every review that was given."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

ON_SQLITE = tuple(
    f"CREATE TRIGGER reviews_no_{what.lower()} BEFORE {what} ON reviews BEGIN SELECT RAISE(ABORT, 'reviews is append-only'); END"
    for what in ("UPDATE", "DELETE")
)
ON_POSTGRESQL = (
    "CREATE FUNCTION reviews_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'reviews is append-only'; END $$",
    "CREATE TRIGGER reviews_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON reviews "
    "FOR EACH STATEMENT EXECUTE FUNCTION reviews_is_append_only()",
)


def upgrade() -> None:
    """Create `review_items` and `reviews`, which only grows; add `severity` to `analyses`."""
    op.add_column("analyses", sa.Column("severity", sa.Double()))
    # What is known of those that were judged before: how probable they are. See service/severity.py.
    op.execute("UPDATE analyses SET severity = 0.6 * coalesce(p, 0) WHERE status = 'succeeded'")
    op.create_table(
        "review_items",
        sa.Column("analysis_id", sa.String(36), primary_key=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("outcome", sa.String(16)),
        sa.Column("reviews", sa.Integer(), nullable=False),
        sa.Column("first_by", sa.String(255)),
        sa.Column("skips", sa.Integer(), nullable=False),
        sa.Column("place", sa.String(36)),
        sa.Column("holder", sa.String(255)),
        sa.Column("holder_name", sa.String(320)),
        sa.Column("held_since", sa.DateTime()),
        sa.Column("held_until", sa.DateTime()),
        sa.CheckConstraint("(outcome IS NOT NULL) = (stage = 'done')", name="outcome_if_done"),
        sa.CheckConstraint("(holder IS NOT NULL) = (held_until IS NOT NULL)", name="lease_if_held"),
    )
    op.create_index("review_items_by_holder", "review_items", ["tenant", "holder"])
    op.create_table(
        "reviews",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("analysis_id", sa.String(36), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("reviewer", sa.String(255), nullable=False),
        sa.Column("reviewer_name", sa.String(320), nullable=False),
        sa.Column("decision", sa.String(16)),
        sa.Column("reason", sa.String(32), nullable=False),
        sa.Column("note", sa.String()),
        sa.Column("open_s", sa.Double(), nullable=False),
        sa.Column("waited_s", sa.Double(), nullable=False),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("p", sa.Double()),
        sa.Column("calibration_id", sa.String(64), nullable=False),
        sa.Column("weights_sha256", sa.String(64), nullable=False),
        sa.Column("media_sha256", sa.String(64), nullable=False),
        sa.CheckConstraint("(decision IS NULL) = (role = 'skip')", name="decision_unless_skipped"),
        sa.UniqueConstraint("analysis_id", "n", name="reviews_in_order"),
    )
    op.create_index("reviews_by_tenant", "reviews", ["tenant", "id"])
    sqlite = op.get_bind().dialect.name == "sqlite"
    for statement in ON_SQLITE if sqlite else ON_POSTGRESQL:
        op.execute(statement)


def downgrade() -> None:
    """Take them away."""
    for table in ("reviews", "review_items"):
        op.drop_table(table)
    if op.get_bind().dialect.name != "sqlite":
        op.execute("DROP FUNCTION reviews_is_append_only()")
    with op.batch_alter_table("analyses") as analyses:
        analyses.drop_column("severity")
