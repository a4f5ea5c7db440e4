"""The first schema: models, batches, inspections, reviews.

A downgrade is refused: going back would drop what later versions recorded.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "models",
        sa.Column("pk", sa.Integer, primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("card", sa.Text, nullable=False),
        sa.Column("first_used_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "batches",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("model_pk", sa.Integer, sa.ForeignKey("models.pk")),
        sa.Column("runtime", sa.Text, nullable=False),
        sa.Column("precision", sa.Text, nullable=False),
        sa.Column("closed_by", sa.Text, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("recorded_at", sa.BigInteger, nullable=False),
        sa.Column("read_us", sa.Integer, nullable=False),
        sa.Column("classify_us", sa.Integer, nullable=False),
    )
    op.create_table(
        "inspections",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("station", sa.Text, nullable=False),
        sa.Column("source", sa.LargeBinary, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("mtime_ns", sa.BigInteger, nullable=False),
        sa.Column("ctime_ns", sa.BigInteger, nullable=False),
        sa.Column("device", sa.BigInteger, nullable=False),
        sa.Column("inode", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.LargeBinary),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("score", sa.Float),
        sa.Column("threshold", sa.Float),
        sa.Column("model_pk", sa.Integer, sa.ForeignKey("models.pk")),
        sa.Column("batch_id", sa.Integer, sa.ForeignKey("batches.id"), nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("detail", sa.Text),
        sa.Column("duplicate_of", sa.Integer, sa.ForeignKey("inspections.id")),
        sa.Column("settled_at", sa.BigInteger, nullable=False),
        sa.Column("settled_by", sa.Text, nullable=False),
        sa.Column("inspected_at", sa.BigInteger, nullable=False),
        sa.Column("place", sa.Text, nullable=False),
        sa.Column("destination", sa.LargeBinary),
        sa.Column("filed_at", sa.BigInteger),
        sa.Column("released_at", sa.BigInteger),
        sa.Column("superseded_at", sa.BigInteger),
        sa.Column("expired_at", sa.BigInteger),
        sa.Column("vanished_at", sa.BigInteger),
        sa.Column("vanished_by", sa.Text),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "uq_inspections_present",
        "inspections",
        ["station", "source", "size_bytes", "mtime_ns"],
        unique=True,
        sqlite_where=sa.text("released_at IS NULL"),
    )
    op.create_index(
        "ix_inspections_window", "inspections", ["inspected_at", "outcome", "model_pk", "threshold"]
    )
    op.create_index(
        "ix_inspections_sha256",
        "inspections",
        ["sha256"],
        sqlite_where=sa.text("sha256 IS NOT NULL"),
    )
    op.create_index(
        "uq_inspections_destination",
        "inspections",
        ["place", "destination"],
        unique=True,
        sqlite_where=sa.text("destination IS NOT NULL"),
    )
    op.create_index(
        "ix_inspections_unfiled", "inspections", ["id"], sqlite_where=sa.text("filed_at IS NULL")
    )
    op.create_table(
        "reviews",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("inspection_id", sa.Integer, sa.ForeignKey("inspections.id"), nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("reviewed_by", sa.Text, nullable=False),
        sa.Column("reviewed_at", sa.BigInteger, nullable=False),
        sa.Column("note", sa.Text),
    )
    op.create_index("ix_reviews_inspection_id", "reviews", ["inspection_id"])
