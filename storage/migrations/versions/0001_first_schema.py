"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "ca_name_set",
        sa.Column("ca_names_sha256", _NAME, nullable=False),
        sa.Column("names", sa.JSON(), nullable=False),
        sa.Column("der", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("ca_names_sha256"),
    )
    op.create_table(
        "certificate",
        sa.Column("sha256", _NAME, nullable=False),
        sa.Column("der", sa.LargeBinary(), nullable=False),
        sa.Column("readable", sa.Boolean(), nullable=False),
        sa.Column("parse_error", sa.Text(), nullable=True),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("issuer", sa.Text(), nullable=True),
        sa.Column("serial", sa.Text(), nullable=True),
        sa.Column("not_before", _TIME, nullable=True),
        sa.Column("not_after", _TIME, nullable=True),
        sa.Column("key_type", sa.Text(), nullable=True),
        sa.Column("key_bits", sa.Integer(), nullable=True),
        sa.Column("spki_sha256", _NAME, nullable=True),
        sa.Column("signature_algorithm", sa.Text(), nullable=True),
        sa.Column("dns_names", sa.JSON(), nullable=False),
        sa.Column("eku_oids", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("eku_class", sa.String(length=16), nullable=False),
        sa.Column("is_ca", sa.Boolean(), nullable=False),
        sa.Column("policy_oids", sa.JSON(), nullable=False),
        sa.Column("sct_timestamps", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("sha256"),
    )
    op.create_table(
        "certificate_list",
        sa.Column("list_sha256", _NAME, nullable=False),
        sa.Column("certificates", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("list_sha256"),
    )
    op.create_table(
        "scan",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("finished_at", _TIME, nullable=True),
        sa.Column("tool_version", sa.Text(), nullable=False),
        sa.Column("rules_version", sa.Text(), nullable=False),
        sa.Column("trust_id", sa.Text(), nullable=True),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("target_batches", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "classification",
        sa.Column("scan_id", sa.Integer(), nullable=False),
        sa.Column("sha256", _NAME, nullable=False),
        sa.Column("eku_class", sa.String(length=16), nullable=False),
        sa.Column("effective_eku_class", sa.String(length=16), nullable=False),
        sa.Column("hierarchy", sa.String(length=24), nullable=False),
        sa.Column("programs", sa.String(length=64), nullable=False),
        sa.Column("programs_unknown", sa.String(length=64), nullable=False),
        sa.Column("chrome_estimated", sa.Boolean(), nullable=False),
        sa.Column("chrome_absence", sa.String(length=16), nullable=True),
        sa.Column("self_signed", sa.Boolean(), nullable=False),
        sa.Column("subclass", sa.Text(), nullable=True),
        sa.Column("ca_owner", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["scan_id"], ["scan.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("scan_id", "sha256"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "domain",
        sa.Column("scan_id", sa.Integer(), nullable=False),
        sa.Column("order_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("domain", _NAME, nullable=False),
        sa.Column("weight", sa.Float(), nullable=True),
        sa.Column("rank", sa.Integer(), nullable=True),
        sa.Column("routing", sa.String(length=16), nullable=True),
        sa.Column("rcode", sa.String(length=16), nullable=True),
        sa.Column("authenticated", sa.Boolean(), nullable=False),
        sa.Column("mx_set", _NAME, nullable=True),
        sa.ForeignKeyConstraint(["scan_id"], ["scan.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("scan_id", "order_key", "domain"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "endpoint",
        sa.Column("scan_id", sa.Integer(), nullable=False),
        sa.Column("order_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("mx_host", _NAME, nullable=False),
        sa.Column("address", _NAME, nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(length=20), nullable=True),
        sa.Column("due_attempt", sa.SmallInteger(), nullable=False),
        sa.Column("claimed_attempt", sa.SmallInteger(), nullable=False),
        sa.Column("last_attempt", sa.SmallInteger(), nullable=False),
        sa.Column("claimed_at", _TIME, nullable=True),
        sa.Column("ended_at", _TIME, nullable=True),
        sa.Column("not_before", _TIME, nullable=True),
        sa.Column("done", sa.Boolean(), sa.Computed("last_attempt >= due_attempt", persisted=True), nullable=False),
        sa.ForeignKeyConstraint(["scan_id"], ["scan.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("scan_id", "order_key", "mx_host", "address", "port"),
        sqlite_with_rowid=False,
    )
    op.create_index("endpoint_host", "endpoint", ["scan_id", "mx_host", "address", "port"], unique=False)
    op.create_table(
        "list_classification",
        sa.Column("scan_id", sa.Integer(), nullable=False),
        sa.Column("list_sha256", _NAME, nullable=False),
        sa.Column("chain_complete", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["scan_id"], ["scan.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("scan_id", "list_sha256"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "mx_address",
        sa.Column("scan_id", sa.Integer(), nullable=False),
        sa.Column("address", _NAME, nullable=False),
        sa.Column("mx_host", _NAME, nullable=False),
        sa.Column("position", sa.SmallInteger(), nullable=False),
        sa.ForeignKeyConstraint(["scan_id"], ["scan.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("scan_id", "address", "mx_host"),
        sqlite_with_rowid=False,
    )
    op.create_index("mx_address_host", "mx_address", ["scan_id", "mx_host"], unique=False)
    op.create_table(
        "mx_host",
        sa.Column("scan_id", sa.Integer(), nullable=False),
        sa.Column("mx_host", _NAME, nullable=False),
        sa.Column("operator", _NAME, nullable=False),
        sa.Column("rcode_a", sa.String(length=16), nullable=True),
        sa.Column("rcode_aaaa", sa.String(length=16), nullable=True),
        sa.Column("authenticated", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["scan_id"], ["scan.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("scan_id", "mx_host"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "mx_set_host",
        sa.Column("scan_id", sa.Integer(), nullable=False),
        sa.Column("mx_set", _NAME, nullable=False),
        sa.Column("position", sa.SmallInteger(), nullable=False),
        sa.Column("preference", sa.Integer(), nullable=False),
        sa.Column("mx_host", _NAME, nullable=False),
        sa.Column("notes", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["scan_id"], ["scan.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("scan_id", "mx_set", "position"),
        sqlite_with_rowid=False,
    )
    op.create_index("mx_set_host_host", "mx_set_host", ["scan_id", "mx_host"], unique=False)
    op.create_table(
        "observation",
        sa.Column("scan_id", sa.Integer(), nullable=False),
        sa.Column("order_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("mx_host", _NAME, nullable=False),
        sa.Column("address", _NAME, nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.SmallInteger(), nullable=False),
        sa.Column("last", sa.Boolean(), nullable=False),
        sa.Column("status", sa.String(length=12), nullable=False),
        sa.Column("stage", sa.String(length=16), nullable=False),
        sa.Column("failure", sa.String(length=16), nullable=True),
        sa.Column("reply_code", sa.SmallInteger(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("greeting", sa.Text(), nullable=True),
        sa.Column("ehlo_greeting", sa.Text(), nullable=True),
        sa.Column("ehlo_keywords", sa.JSON(), nullable=False),
        sa.Column("starttls_offered", sa.Boolean(), nullable=True),
        sa.Column("injected_plaintext", sa.Boolean(), nullable=False),
        sa.Column("tls_version", sa.String(length=8), nullable=True),
        sa.Column("cipher_suite", sa.Text(), nullable=True),
        sa.Column("tls_group", sa.Text(), nullable=True),
        sa.Column("list_sha256", _NAME, nullable=True),
        sa.Column("certificate", _NAME, nullable=True),
        sa.Column("client_auth", sa.String(length=20), nullable=False),
        sa.Column("ca_names_sha256", _NAME, nullable=True),
        sa.Column("software", sa.Text(), nullable=True),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("duration_ms", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["scan_id"], ["scan.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("scan_id", "order_key", "mx_host", "address", "port", "attempt"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "scan_certificate",
        sa.Column("scan_id", sa.Integer(), nullable=False),
        sa.Column("sha256", _NAME, nullable=False),
        sa.Column("role", sa.String(length=8), nullable=False),
        sa.ForeignKeyConstraint(["scan_id"], ["scan.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("scan_id", "sha256"),
        sqlite_with_rowid=False,
    )
