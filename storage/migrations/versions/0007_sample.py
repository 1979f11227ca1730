"""The sample of a scan: its strata, and the addresses drawn with their probabilities."""

import sqlalchemy as sa
from alembic import op

from storage.types import Name

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sample_stratum",
        sa.Column("scan_id", sa.Integer(), nullable=False),
        sa.Column("stratum", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("clusters", sa.Integer(), nullable=False),
        sa.Column("drawn", sa.Integer(), nullable=False),
        sa.Column("addresses", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["scan_id"], ["scan.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("scan_id", "stratum"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "sample_address",
        sa.Column("scan_id", sa.Integer(), nullable=False),
        sa.Column("address", Name, nullable=False),
        sa.Column("stratum", sa.Integer(), nullable=False),
        sa.Column("cluster", sa.Integer(), nullable=False),
        sa.Column("probability", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["scan_id"], ["scan.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("scan_id", "address"),
        sqlite_with_rowid=False,
    )
