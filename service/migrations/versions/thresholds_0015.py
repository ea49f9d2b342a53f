"""Thresholds that leads confirm, by which of them each analysis is judged, and up to which one it would be called manipulated."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

ON_SQLITE = tuple(
    f"CREATE TRIGGER thresholds_no_{what.lower()} BEFORE {what} ON thresholds BEGIN SELECT RAISE(ABORT, 'thresholds is append-only'); END"
    for what in ("UPDATE", "DELETE")
)
ON_POSTGRESQL = (
    "CREATE FUNCTION thresholds_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'thresholds is append-only'; END $$",
    "CREATE TRIGGER thresholds_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON thresholds "
    "FOR EACH STATEMENT EXECUTE FUNCTION thresholds_is_append_only()",
)
ADDED = {"analyses": ("calibration_id", "threshold_version", "reach"), "reviews": ("reach",)}


def upgrade() -> None:
    """Create `thresholds`, which only grows; add to `analyses` what decides, and to both how far it reaches."""
    op.create_table(
        "thresholds",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("calibration_id", sa.String(64), primary_key=True),
        sa.Column("version", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("threshold", sa.Double()),
        sa.Column("target_fpr", sa.Double()),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("author", sa.String(255), nullable=False),
        sa.Column("author_name", sa.String(320), nullable=False),
        sa.CheckConstraint("threshold > 0 AND threshold < 1", name="threshold_is_a_probability"),
        sa.CheckConstraint("(threshold IS NULL) = (target_fpr IS NULL)", name="rate_with_threshold"),
    )
    sqlite = op.get_bind().dialect.name == "sqlite"
    for statement in ON_SQLITE if sqlite else ON_POSTGRESQL:
        op.execute(statement)
    op.add_column("analyses", sa.Column("calibration_id", sa.String(64)))
    op.add_column("analyses", sa.Column("threshold_version", sa.Integer()))
    op.add_column("analyses", sa.Column("reach", sa.Double()))
    op.add_column("reviews", sa.Column("reach", sa.Double()))
    # There was no other than the shipped one; how far those reach nobody noted.
    op.execute("UPDATE analyses SET threshold_version = 0 WHERE status = 'succeeded'")


def downgrade() -> None:
    """Take them away."""
    for table, columns in ADDED.items():
        for column in columns:
            op.drop_column(table, column)
    op.drop_table("thresholds")
    if op.get_bind().dialect.name != "sqlite":
        op.execute("DROP FUNCTION thresholds_is_append_only()")
