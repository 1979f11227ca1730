"""When a certificate can no longer be renewed for both roles, and its policy cohort.

What was classified before stays as it is; `mxcensus reclassify` fills the new columns.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("classification", sa.Column("exposure", sa.String(length=16)))
    op.add_column("classification", sa.Column("issued_since", sa.String(length=10)))
    op.add_column("classification", sa.Column("expires_since", sa.String(length=10)))
