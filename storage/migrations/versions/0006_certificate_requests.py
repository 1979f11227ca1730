"""What a CertificateRequest says: classes of its CA names, certificate types, signature algorithms."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("observation", sa.Column("client_certificate_types", sa.JSON(none_as_null=True), nullable=True))
    op.add_column(
        "observation", sa.Column("client_signature_algorithms", sa.JSON(none_as_null=True), nullable=True)
    )
    op.create_table(
        "ca_names_verdict",
        sa.Column("scan_id", sa.Integer(), nullable=False),
        sa.Column("ca_names_sha256", _NAME, nullable=False),
        sa.Column("list_sha256", _NAME, nullable=False),
        sa.Column("names_class", sa.String(length=20), nullable=False),
        sa.ForeignKeyConstraint(["scan_id"], ["scan.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("scan_id", "ca_names_sha256", "list_sha256"),
        sqlite_with_rowid=False,
    )
