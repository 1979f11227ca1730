"""What tells the issuer of a certificate from others.

What was classified before stays as it is, and is counted by the issuer's name; `mxcensus reclassify` fills the
column.

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    name = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    op.add_column("classification", sa.Column("issuer_key", name, nullable=True))
