"""Add the capture commands that were sent to boxes, and what they answered."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this step."""
    op.create_table(
        "captures",
        sa.Column("command_id", sa.String(length=128), nullable=False),
        sa.Column("task_id", sa.String(length=63), nullable=False),
        sa.Column("device_id", sa.String(length=63), nullable=False),
        sa.Column("command", sa.JSON(), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("frames_kept", sa.Integer(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("command_id"),
    )
    with op.batch_alter_table("captures", schema=None) as batch_op:
        batch_op.create_index("captures_by_task", ["task_id", "asked_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_captures_outcome"), ["outcome"], unique=False)


def downgrade() -> None:
    """Take this step back."""
    with op.batch_alter_table("captures", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_captures_outcome"))
        batch_op.drop_index("captures_by_task")

    op.drop_table("captures")
