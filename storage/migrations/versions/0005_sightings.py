"""Certificates that `listen` was shown or `import` brought."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "sighting",
        sa.Column("scan_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("role", sa.String(length=8), nullable=False),
        sa.Column("sha256", _NAME, nullable=True),
        sa.Column("list_sha256", _NAME, nullable=True),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("operator", _NAME, nullable=True),
        sa.Column("day", sa.Date(), nullable=True),
        sa.Column("required", sa.Boolean(), nullable=True),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("prefix", _NAME, nullable=True),
        sa.Column("ehlo_name", sa.Text(), nullable=True),
        sa.Column("tls_version", sa.String(length=8), nullable=True),
        sa.Column("cipher_suite", sa.Text(), nullable=True),
        sa.Column("ended", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["scan_id"], ["scan.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("scan_id", "number"),
        sqlite_with_rowid=False,
    )
