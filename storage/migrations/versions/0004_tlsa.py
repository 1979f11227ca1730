"""TLSA records of MX hosts, and what they say of what the hosts present.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "tlsa",
        sa.Column("scan_id", sa.Integer(), nullable=False),
        sa.Column("mx_host", _NAME, nullable=False),
        sa.Column("base", _NAME, nullable=False),
        sa.Column("rcode", sa.String(length=16), nullable=True),
        sa.Column("authenticated", sa.Boolean(), nullable=False),
        sa.Column("standing", sa.String(length=12), nullable=True),
        sa.Column("records", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["scan_id"], ["scan.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("scan_id", "mx_host"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "dane_verdict",
        sa.Column("scan_id", sa.Integer(), nullable=False),
        sa.Column("mx_host", _NAME, nullable=False),
        sa.Column("list_sha256", _NAME, nullable=False),
        sa.Column("dane", sa.String(length=12), nullable=False),
        sa.Column("record", sa.String(length=12), nullable=True),
        sa.ForeignKeyConstraint(["scan_id"], ["scan.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("scan_id", "mx_host", "list_sha256"),
        sqlite_with_rowid=False,
    )
