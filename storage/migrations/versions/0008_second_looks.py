"""Second looks at endpoints, for a certificate of the other key type."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "second_look",
        sa.Column("scan_id", sa.Integer(), nullable=False),
        sa.Column("order_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("mx_host", _NAME, nullable=False),
        sa.Column("address", _NAME, nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("key_type", sa.String(length=8), nullable=False),
        sa.Column("stage", sa.String(length=16), nullable=False),
        sa.Column("failure", sa.String(length=16), nullable=True),
        sa.Column("tls_alert", sa.SmallInteger(), nullable=True),
        sa.Column("tls_version", sa.String(length=8), nullable=True),
        sa.Column("cipher_suite", sa.Text(), nullable=True),
        sa.Column("list_sha256", _NAME, nullable=True),
        sa.Column("certificate", _NAME, nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("duration_ms", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["scan_id"], ["scan.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("scan_id", "order_key", "mx_host", "address", "port"),
        sqlite_with_rowid=False,
    )
