"""MTA-STS records and policies of domains, and what they come to.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "mta_sts",
        sa.Column("scan_id", sa.Integer(), nullable=False),
        sa.Column("domain", _NAME, nullable=False),
        sa.Column("record", sa.String(length=8), nullable=False),
        sa.Column("rcode", sa.String(length=16), nullable=True),
        sa.Column("id", sa.Text(), nullable=True),
        sa.Column("text", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["scan_id"], ["scan.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("scan_id", "domain"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "sts_policy",
        sa.Column("scan_id", sa.Integer(), nullable=False),
        sa.Column("domain", _NAME, nullable=False),
        sa.Column("claimed_at", _TIME, nullable=True),
        sa.Column("fetched_at", _TIME, nullable=True),
        sa.Column("failure", sa.String(length=24), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("address", _NAME, nullable=True),
        sa.Column("status", sa.SmallInteger(), nullable=True),
        sa.Column("mode", sa.String(length=8), nullable=True),
        sa.Column("max_age", sa.Integer(), nullable=True),
        sa.Column("mx", sa.JSON(), nullable=True),
        sa.Column("text", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["scan_id"], ["scan.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("scan_id", "domain"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "sts_verdict",
        sa.Column("scan_id", sa.Integer(), nullable=False),
        sa.Column("domain", _NAME, nullable=False),
        sa.Column("mta_sts", sa.String(length=20), nullable=False),
        sa.Column("unmatched", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["scan_id"], ["scan.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("scan_id", "domain"),
        sqlite_with_rowid=False,
    )
