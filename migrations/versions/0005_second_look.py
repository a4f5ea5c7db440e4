"""From which score on a photograph's tiles were looked at again.

Photographs of before were judged by one look at each tile: they have none. A downgrade is refused:
going back would drop what was recorded since.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("photographs", sa.Column("second_look_from", sa.Float))


def downgrade() -> None:
    raise NotImplementedError("going back would drop what was recorded since")
