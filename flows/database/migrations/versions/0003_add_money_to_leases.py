"""Add what a lease costs, and when its machine was asked for and had."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this step."""
    with op.batch_alter_table("leases", schema=None) as batch_op:
        batch_op.add_column(sa.Column("spot", sa.Boolean(), nullable=False, server_default=sa.false()))
        batch_op.add_column(sa.Column("price", sa.Double(), nullable=True))
        batch_op.add_column(sa.Column("asked_at", sa.DateTime(timezone=True), nullable=True))
        batch_op.add_column(sa.Column("launched_at", sa.DateTime(timezone=True), nullable=True))
        batch_op.add_column(sa.Column("cost", sa.Double(), nullable=True))


def downgrade() -> None:
    """Take this step back."""
    with op.batch_alter_table("leases", schema=None) as batch_op:
        for name in ("cost", "launched_at", "asked_at", "price", "spot"):
            batch_op.drop_column(name)
