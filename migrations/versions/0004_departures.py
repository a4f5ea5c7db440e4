"""Departures: files that are to leave their places again, and are on their way.

A row stands from before the first rename until after the last sync, so that a kill in between is
taken up again. Those that led back to the inbox stay, with who asked and when; those of retention are
removed once ``inspections.expired_at`` says it. A downgrade is refused: going back would drop what
was recorded since.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "departures",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("station", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("inspection_id", sa.Integer, sa.ForeignKey("inspections.id")),
        sa.Column("place", sa.Text, nullable=False),
        sa.Column("name", sa.LargeBinary, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("mtime_ns", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.LargeBinary),
        sa.Column("target", sa.LargeBinary),
        sa.Column("newest_inspection", sa.Integer, nullable=False),
        sa.Column("asked_by", sa.Text, nullable=False),
        sa.Column("asked_at", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.BigInteger),
        sa.Column("outcome", sa.Text),
    )
    op.create_index(
        "ix_departures_open", "departures", ["id"], sqlite_where=sa.text("ended_at IS NULL")
    )


def downgrade() -> None:
    raise NotImplementedError("going back would drop what was recorded since")
