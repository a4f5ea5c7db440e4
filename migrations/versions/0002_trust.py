"""What trust needs: light and sharpness of each picture, the review band, reviews of any picture,
and the heartbeats of the model's golden pictures.

A downgrade is refused: going back would drop what later versions recorded.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # added at the end, without a rewrite of a table that may hold years
    op.add_column("inspections", sa.Column("brightness", sa.Float))
    op.add_column("inspections", sa.Column("sharpness", sa.Float))
    op.add_column("inspections", sa.Column("in_review_band", sa.Boolean))
    op.create_index(
        "ix_inspections_review_band",
        "inspections",
        ["inspected_at"],
        sqlite_where=sa.text("in_review_band = 1"),
    )
    # a review is of a picture, inspected here or not: no crackwatch wrote the table of 0001, but what
    # somebody put there by hand is not ours to throw away
    op.drop_index("ix_reviews_inspection_id", "reviews")
    if op.get_bind().scalar(sa.text("SELECT 1 FROM reviews LIMIT 1")):
        op.rename_table("reviews", "reviews_0001")
    else:
        op.drop_table("reviews")
    op.create_table(
        "reviews",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("sha256", sa.LargeBinary, nullable=False),
        sa.Column("inspection_id", sa.Integer, sa.ForeignKey("inspections.id")),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("reviewed_by", sa.Text, nullable=False),
        sa.Column("reviewed_at", sa.BigInteger, nullable=False),
        sa.Column("note", sa.Text),
        sa.Column("picture", sa.LargeBinary, nullable=False),
        sa.Column("pixels", sa.LargeBinary, nullable=False),
    )
    op.create_index("ix_reviews_sha256", "reviews", ["sha256", "id"])
    op.create_index("ix_reviews_inspection", "reviews", ["inspection_id"])
    op.create_index("ix_reviews_pixels", "reviews", ["pixels"])
    op.create_table(
        "heartbeats",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("station", sa.Text, nullable=False),
        sa.Column("model_pk", sa.Integer, sa.ForeignKey("models.pk"), nullable=False),
        sa.Column("runtime", sa.Text, nullable=False),
        sa.Column("precision", sa.Text, nullable=False),
        sa.Column("beat_at", sa.BigInteger, nullable=False),
        sa.Column("good", sa.Boolean, nullable=False),
        sa.Column("largest_difference", sa.Float),
        sa.Column("flipped", sa.Integer),
        sa.Column("detail", sa.Text),
        sa.Column("newest_inspection", sa.Integer, nullable=False),
    )
    op.create_index("ix_heartbeats_beat_at", "heartbeats", ["beat_at"])


def downgrade() -> None:
    raise NotImplementedError("going back would drop what was recorded since")
