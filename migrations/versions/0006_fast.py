"""From which quick score on a batch's pictures were scored again in f32.

Batches of before were scored in f32 alone: they have none. A downgrade is refused: going back would
drop what was recorded since.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("batches", sa.Column("exact_from", sa.Float))


def downgrade() -> None:
    raise NotImplementedError("going back would drop what was recorded since")
