"""Create the first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this step."""
    op.create_table(
        "candidates",
        sa.Column("candidate_id", sa.String(length=128), nullable=False),
        sa.Column("task_id", sa.String(length=63), nullable=False),
        sa.Column("run_id", sa.String(length=128), nullable=False),
        sa.Column("model_id", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("channel", sa.String(length=63), nullable=False),
        sa.Column("release_version", sa.Integer(), nullable=True),
        sa.Column("gate", sa.JSON(), nullable=False),
        sa.Column("collected_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("judged_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("candidate_id"),
        sa.UniqueConstraint("task_id", "channel", "release_version"),
    )
    with op.batch_alter_table("candidates", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_candidates_run_id"), ["run_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_candidates_task_id"), ["task_id"], unique=False)

    op.create_table(
        "champions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("task_id", sa.String(length=63), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("release_version", sa.Integer(), nullable=False),
        sa.Column("model_id", sa.String(length=64), nullable=False),
        sa.Column("onnx_key", sa.String(length=512), nullable=False),
        sa.Column("weights_key", sa.String(length=512), nullable=False),
        sa.Column("weights_sha256", sa.String(length=64), nullable=False),
        sa.Column("weights_bytes", sa.Integer(), nullable=False),
        sa.Column("class_list_version", sa.Integer(), nullable=False),
        sa.Column("snapshot_id", sa.String(length=64), nullable=True),
        sa.Column("run_id", sa.String(length=128), nullable=True),
        sa.Column("promoted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("champions", schema=None) as batch_op:
        batch_op.create_index("champions_by_task", ["task_id", "id"], unique=False)

    op.create_table(
        "class_lists",
        sa.Column("task_id", sa.String(length=63), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("names", sa.JSON(), nullable=False),
        sa.Column("added_by", sa.String(length=128), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("added_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("task_id", "version"),
    )
    op.create_table(
        "devices",
        sa.Column("task_id", sa.String(length=63), nullable=False),
        sa.Column("device_id", sa.String(length=63), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("release_version", sa.Integer(), nullable=False),
        sa.Column("report", sa.JSON(), nullable=False),
        sa.Column("reported_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("task_id", "device_id"),
    )
    op.create_table(
        "grants",
        sa.Column("grant_id", sa.String(length=32), nullable=False),
        sa.Column("task_id", sa.String(length=63), nullable=False),
        sa.Column("device_id", sa.String(length=63), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("items", sa.JSON(), nullable=False),
        sa.Column("granted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("grant_id"),
        sa.UniqueConstraint("task_id", "device_id", "request_id"),
    )
    op.create_table(
        "label_files",
        sa.Column("task_id", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("content_sha256", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("stamp", sa.String(length=128), nullable=False),
        sa.Column("class_list_version", sa.Integer(), nullable=False),
        sa.Column("previous_version", sa.Integer(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("task_id", "name"),
    )
    op.create_table(
        "leases",
        sa.Column("lease_id", sa.String(length=128), nullable=False),
        sa.Column("task_id", sa.String(length=63), nullable=False),
        sa.Column("run_id", sa.String(length=128), nullable=False),
        sa.Column("provider", sa.String(length=128), nullable=False),
        sa.Column("offer", sa.JSON(), nullable=False),
        sa.Column("price_cap", sa.Double(), nullable=False),
        sa.Column("deadline", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("machine", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("end_reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("lease_id"),
    )
    with op.batch_alter_table("leases", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_leases_run_id"), ["run_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_leases_state"), ["state"], unique=False)
        batch_op.create_index(batch_op.f("ix_leases_task_id"), ["task_id"], unique=False)

    op.create_table(
        "origins",
        sa.Column("task_id", sa.String(length=63), nullable=False),
        sa.Column("weights_sha256", sa.String(length=64), nullable=False),
        sa.Column("weights_key", sa.String(length=512), nullable=False),
        sa.Column("weights_bytes", sa.Integer(), nullable=False),
        sa.Column("onnx_key", sa.String(length=512), nullable=False),
        sa.Column("model_id", sa.String(length=64), nullable=False),
        sa.Column("class_list_version", sa.Integer(), nullable=False),
        sa.Column("release_version", sa.Integer(), nullable=True),
        sa.Column("licence", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("entered_by", sa.String(length=128), nullable=False),
        sa.Column("entered_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("task_id", "weights_sha256"),
    )
    op.create_table(
        "quarantine",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("task_id", sa.String(length=63), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("key", sa.String(length=512), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("device_id", sa.String(length=63), nullable=True),
        sa.Column("torn", sa.Boolean(), nullable=False),
        sa.Column("quarantined_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("task_id", "subject", "key"),
    )
    op.create_table(
        "rollouts",
        sa.Column("rollout_id", sa.String(length=128), nullable=False),
        sa.Column("task_id", sa.String(length=63), nullable=False),
        sa.Column("channel", sa.String(length=63), nullable=False),
        sa.Column("release_version", sa.Integer(), nullable=False),
        sa.Column("model_id", sa.String(length=64), nullable=False),
        sa.Column("devices", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("rollout_id"),
    )
    with op.batch_alter_table("rollouts", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_rollouts_state"), ["state"], unique=False)
        batch_op.create_index("rollouts_by_task", ["task_id", "started_at"], unique=False)

    op.create_table(
        "runs",
        sa.Column("run_id", sa.String(length=128), nullable=False),
        sa.Column("task_id", sa.String(length=63), nullable=False),
        sa.Column("snapshot_id", sa.String(length=64), nullable=False),
        sa.Column("start_kind", sa.String(length=16), nullable=False),
        sa.Column("start_sha256", sa.String(length=64), nullable=False),
        sa.Column("recipe", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("flow_run", sa.String(length=128), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("touched_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("run_id"),
    )
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_runs_state"), ["state"], unique=False)
        batch_op.create_index("runs_by_task", ["task_id", "started_at"], unique=False)

    op.create_table(
        "samples",
        sa.Column("task_id", sa.String(length=63), nullable=False),
        sa.Column("sample_id", sa.String(length=64), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("media_type", sa.String(length=128), nullable=False),
        sa.Column("look", sa.String(length=256), nullable=False),
        sa.Column("origin", sa.String(length=16), nullable=False),
        sa.Column("pinned_split", sa.String(length=16), nullable=True),
        sa.Column("model_id", sa.String(length=64), nullable=True),
        sa.Column("release_version", sa.Integer(), nullable=False),
        sa.Column("decision", sa.String(length=16), nullable=False),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.Column("slices", sa.JSON(), nullable=False),
        sa.Column("keep_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("committed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("task_id", "sample_id"),
    )
    op.create_table(
        "shards",
        sa.Column("task_id", sa.String(length=63), nullable=False),
        sa.Column("list_sha256", sa.String(length=64), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("samples", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("task_id", "list_sha256"),
    )
    op.create_table(
        "snapshot_members",
        sa.Column("task_id", sa.String(length=63), nullable=False),
        sa.Column("snapshot_id", sa.String(length=64), nullable=False),
        sa.Column("sample_id", sa.String(length=64), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("split", sa.String(length=16), nullable=False),
        sa.PrimaryKeyConstraint("task_id", "snapshot_id", "sample_id"),
    )
    op.create_table(
        "snapshots",
        sa.Column("task_id", sa.String(length=63), nullable=False),
        sa.Column("snapshot_id", sa.String(length=64), nullable=False),
        sa.Column("parent_snapshot", sa.String(length=64), nullable=True),
        sa.Column("members", sa.Integer(), nullable=False),
        sa.Column("class_list_version", sa.Integer(), nullable=False),
        sa.Column("shards", sa.JSON(), nullable=False),
        sa.Column("cut_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("task_id", "snapshot_id"),
    )
    op.create_table(
        "tombstones",
        sa.Column("task_id", sa.String(length=63), nullable=False),
        sa.Column("sample_id", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("forgotten_by", sa.String(length=128), nullable=False),
        sa.Column("forgotten_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("task_id", "sample_id"),
    )
    op.create_table(
        "triggers",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("task_id", sa.String(length=63), nullable=False),
        sa.Column("asked", sa.Boolean(), nullable=False),
        sa.Column("verified_new", sa.Integer(), nullable=False),
        sa.Column("threshold", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("champion_snapshot", sa.String(length=64), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("emitted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("emitted", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("triggers", schema=None) as batch_op:
        batch_op.create_index("triggers_by_task", ["task_id", "id"], unique=False)

    op.create_table(
        "labels",
        sa.Column("task_id", sa.String(length=63), nullable=False),
        sa.Column("sample_id", sa.String(length=64), nullable=False),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("class_list_version", sa.Integer(), nullable=False),
        sa.Column("boxes", sa.JSON(), nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("verified", sa.Boolean(), nullable=False),
        sa.Column("imported", sa.Boolean(), nullable=False),
        sa.Column("labelled_by", sa.String(length=128), nullable=False),
        sa.Column("labelled_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("content_sha256", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["task_id", "sample_id"], ["samples.task_id", "samples.sample_id"], ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("task_id", "sample_id", "revision"),
    )
    op.create_table(
        "sightings",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("task_id", sa.String(length=63), nullable=False),
        sa.Column("sample_id", sa.String(length=64), nullable=False),
        sa.Column("device_id", sa.String(length=63), nullable=False),
        sa.Column("camera", sa.String(length=128), nullable=False),
        sa.Column("captured_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("part_id", sa.String(length=128), nullable=False),
        sa.Column("frame_in_part", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["task_id", "sample_id"], ["samples.task_id", "samples.sample_id"], ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint(
            "task_id", "sample_id", "device_id", "camera", "captured_at", "part_id", "frame_in_part"
        ),
    )
    with op.batch_alter_table("sightings", schema=None) as batch_op:
        batch_op.create_index("sightings_by_device", ["task_id", "device_id", "captured_at"], unique=False)
        batch_op.create_index("sightings_by_part", ["task_id", "part_id"], unique=False)


def downgrade() -> None:
    """Take this step back."""
    with op.batch_alter_table("sightings", schema=None) as batch_op:
        batch_op.drop_index("sightings_by_part")
        batch_op.drop_index("sightings_by_device")

    op.drop_table("sightings")
    op.drop_table("labels")
    with op.batch_alter_table("triggers", schema=None) as batch_op:
        batch_op.drop_index("triggers_by_task")

    op.drop_table("triggers")
    op.drop_table("tombstones")
    op.drop_table("snapshots")
    op.drop_table("snapshot_members")
    op.drop_table("shards")
    op.drop_table("samples")
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.drop_index("runs_by_task")
        batch_op.drop_index(batch_op.f("ix_runs_state"))

    op.drop_table("runs")
    with op.batch_alter_table("rollouts", schema=None) as batch_op:
        batch_op.drop_index("rollouts_by_task")
        batch_op.drop_index(batch_op.f("ix_rollouts_state"))

    op.drop_table("rollouts")
    op.drop_table("quarantine")
    op.drop_table("origins")
    with op.batch_alter_table("leases", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_leases_task_id"))
        batch_op.drop_index(batch_op.f("ix_leases_state"))
        batch_op.drop_index(batch_op.f("ix_leases_run_id"))

    op.drop_table("leases")
    op.drop_table("label_files")
    op.drop_table("grants")
    op.drop_table("devices")
    op.drop_table("class_lists")
    with op.batch_alter_table("champions", schema=None) as batch_op:
        batch_op.drop_index("champions_by_task")

    op.drop_table("champions")
    with op.batch_alter_table("candidates", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_candidates_task_id"))
        batch_op.drop_index(batch_op.f("ix_candidates_run_id"))

    op.drop_table("candidates")
