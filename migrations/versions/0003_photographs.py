"""What is kept of a photograph that was judged in tiles, and labels of its parts.

A table of its own: most stations' pictures are single crops, and their rows stay as narrow as they
were. A downgrade is refused: going back would drop what was recorded since.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "photographs",
        sa.Column("inspection_id", sa.Integer, sa.ForeignKey("inspections.id"), primary_key=True),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("scale", sa.Float, nullable=False),
        sa.Column("overlap", sa.Integer, nullable=False),
        sa.Column("tiles", sa.Integer, nullable=False),
        sa.Column("tiles_over", sa.Integer, nullable=False),
        sa.Column("min_tiles", sa.Integer, nullable=False),
        sa.Column("largest_cluster", sa.Integer, nullable=False),
        sa.Column("boxes", sa.Text, nullable=False),
        sa.Column("score_map", sa.LargeBinary, nullable=False),
        sa.Column("length_mm", sa.Float),
    )
    # where in a photograph the cut-out lies that a person labelled
    op.add_column("reviews", sa.Column("photograph", sa.LargeBinary))
    for name in ("x", "y", "w", "h"):
        op.add_column("reviews", sa.Column(name, sa.Integer))
    op.create_index(
        "ix_reviews_photograph",
        "reviews",
        ["photograph"],
        sqlite_where=sa.text("photograph IS NOT NULL"),
    )


def downgrade() -> None:
    raise NotImplementedError("going back would drop what was recorded since")
