"""Hold settings, tasks, class lists, origins and the champion to their rules."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from pydantic import ValidationError
from sqlalchemy import func, select

from detection.errors import ModelFileError
from fleet_contracts import ClassListConflict, decode, encode, keys, sha256_of
from fleet_contracts.judging import InputSpec
from fleet_contracts.samples import ClassList
from flows.champion import Entry, OriginFiles, Promotion, champion, origins, register_origin, set_champion
from flows.classes import add_class, class_list_at, current_class_list, prefix_version
from flows.context import Context, open_context
from flows.database.schema import ChampionRow
from flows.errors import CannotStart, SettingsError, UnknownTask
from flows.settings import (
    DatabaseSettings,
    RecipeSettings,
    Settings,
    StoreSettings,
    TaskSettings,
    load_settings,
    write_settings,
)
from flows.store.credentials import StoreCredentials, read_credentials, write_credentials
from flows.tasks import create_task
from tests.flows.kit import CLASSES, TASK, make_installation

ENTRY = Entry(licence="AGPL-3.0-or-later", reason="trained on the old line", by="anna")


def _onnx(path: Path, names: tuple[str, ...], *, described: bool = True) -> Path:
    """Write a tiny model that describes itself as ours do."""
    count = len(names)
    value = np.zeros((1, 4 + count, 8), np.float32)
    node = helper.make_node("Constant", [], ["detections"], value=onnx.numpy_helper.from_array(value))
    graph = helper.make_graph(
        [node],
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 32, 32, 3])],
        [helper.make_tensor_value_info("detections", TensorProto.FLOAT, [1, 4 + count, 8])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if described:
        spec = InputSpec(width=32, height=32, head="dense", features_name=None)
        helper.set_model_props(
            model, {"whetstone.input_spec": encode(spec).decode(), "whetstone.classes": json.dumps(names)}
        )
    onnx.save(model, str(path))
    return path


def _files(folder: Path, names: tuple[str, ...] = CLASSES, **options: bool) -> OriginFiles:
    weights = folder / "base.pt"
    weights.write_bytes(b"weights of " + " ".join(names).encode())
    return OriginFiles(weights, _onnx(folder / "base.onnx", names, **options))


def test_settings_survive_a_round_trip(tmp_path: Path) -> None:
    """What is written is read back, nested sections and tasks included."""
    settings = Settings(
        store=StoreSettings(endpoint="10.0.0.1:9000", public_endpoint="store.example:443", secure=True),
        tasks={
            "plates": TaskSettings(
                devices=("box-1", "box-2"), recipe=RecipeSettings(epochs=3, freeze_layers=10)
            )
        },
    )
    write_settings(tmp_path, settings)
    assert load_settings(tmp_path) == settings
    assert [path.name for path in tmp_path.iterdir()] == ["whetstone.toml"]


def test_settings_are_their_owners(tmp_path: Path) -> None:
    """The database's URL may hold a password: nobody else reads the file, though it was open before."""
    path = tmp_path / "whetstone.toml"
    path.write_text("")
    path.chmod(0o644)
    database = DatabaseSettings(url="postgresql+psycopg://whetstone:secret@db/whetstone")
    write_settings(tmp_path, Settings(database=database))
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_settings(tmp_path).database == database


def test_every_wrong_setting_is_told_at_once(tmp_path: Path) -> None:
    """Unknown keys and bad values are all named, with the file."""
    (tmp_path / "whetstone.toml").write_text(
        "grant_minuts = 3\n[store]\nendpoint = 5\n[tasks.plates]\nimage_size = 33\n[tasks.plates.gate]\nnonsense = 1\n"
    )
    with pytest.raises(SettingsError) as caught:
        load_settings(tmp_path)
    message = str(caught.value)
    for word in (
        "grant_minuts",
        "store.endpoint",
        "tasks.plates.image_size",
        "gate.nonsense",
        "whetstone.toml",
    ):
        assert word in message


def test_settings_that_are_not_there_or_not_toml_say_so(tmp_path: Path) -> None:
    """The message names the file and what to do."""
    with pytest.raises(SettingsError, match="whetstone up"):
        load_settings(tmp_path)
    (tmp_path / "whetstone.toml").write_text("= nothing")
    with pytest.raises(SettingsError, match="TOML"):
        load_settings(tmp_path)


def test_a_task_nobody_created_is_unknown() -> None:
    """The message names the tasks there are."""
    with pytest.raises(UnknownTask, match="task create"):
        Settings().task("plates")
    with pytest.raises(ValidationError):
        Settings().with_task("Not A Slug", TaskSettings())


def test_credentials_are_for_their_owner_alone(tmp_path: Path) -> None:
    """The file is 0600, and neither text nor error shows the secret."""
    pair = StoreCredentials("key", "very-secret")
    write_credentials(tmp_path / "secrets" / "store.json", pair)
    assert read_credentials(tmp_path / "secrets" / "store.json") == pair
    assert (tmp_path / "secrets" / "store.json").stat().st_mode & 0o777 == 0o600
    assert "very-secret" not in repr(pair)
    (tmp_path / "bad.json").write_text('{"secret_key": "very-secret"}')
    for name in ("bad.json", "none.json"):
        with pytest.raises(SettingsError) as caught:
            read_credentials(tmp_path / name)
        assert "very-secret" not in str(caught.value)


def test_an_installation_opens_from_its_folder(tmp_path: Path) -> None:
    """Settings, credentials and database are found in the folder; the store is not asked yet."""
    write_settings(tmp_path, Settings())
    write_credentials(tmp_path / "secrets" / "store.json", StoreCredentials("a", "b"))
    with open_context(tmp_path) as ctx:
        assert ctx.path(ctx.settings.labels.folder) == tmp_path / "labels"
        assert ctx.path(Path("/abs")) == Path("/abs")
        assert (tmp_path / "whetstone.db").exists()
    with open_context(tmp_path):
        pass


def test_a_task_can_be_created_twice(tmp_path: Path) -> None:
    """The second time changes settings only; another class list is refused."""
    ctx = make_installation(tmp_path)
    again = create_task(ctx, TASK, CLASSES, TaskSettings(trigger_threshold=9))
    assert load_settings(tmp_path).task(TASK).trigger_threshold == 9
    assert current_class_list(again, TASK).version == 1
    with pytest.raises(ClassListConflict):
        create_task(ctx, TASK, ("other",), TaskSettings())
    ctx.database.close()


def test_a_task_that_grew_can_still_be_created_again(ctx: Context) -> None:
    """Re-running a set-up with the first names does not undo a class that was added since."""
    add_class(ctx, TASK, "stain", "anna", "it appeared")
    create_task(ctx, TASK, CLASSES, TaskSettings())
    assert current_class_list(ctx, TASK).names == (*CLASSES, "stain")


def test_adding_a_class_makes_the_next_version(ctx: Context) -> None:
    """The list grows at its end, in bucket and catalog; adding the same class again changes nothing."""
    grown = add_class(ctx, TASK, "stain", "anna", "it appeared")
    assert (grown.version, grown.names) == (2, (*CLASSES, "stain"))
    assert add_class(ctx, TASK, "stain", "anna", "again") == grown
    assert current_class_list(ctx, TASK) == grown
    key = keys.class_list(TASK, 2)
    assert decode(ClassList, ctx.store.get(key), where=key) == grown
    assert class_list_at(ctx, TASK, 1).names == CLASSES
    with pytest.raises(CannotStart):
        class_list_at(ctx, TASK, 3)
    with pytest.raises(CannotStart, match="task create"):
        current_class_list(ctx, "boards")


def test_names_are_known_by_the_version_that_has_exactly_them(ctx: Context) -> None:
    """An older list is a prefix; anything else is another list."""
    add_class(ctx, TASK, "stain", "anna", "it appeared")
    assert prefix_version(ctx, TASK, CLASSES, where="x") == 1
    assert prefix_version(ctx, TASK, (*CLASSES, "stain"), where="x") == 2
    for names in (CLASSES[::-1], CLASSES[:2], (*CLASSES, "dent"), ()):
        with pytest.raises(ClassListConflict, match="expected"):
            prefix_version(ctx, TASK, names, where="x")


def test_an_origin_is_registered_once_with_its_reason(ctx: Context, tmp_path: Path) -> None:
    """Weights and ONNX lie in the bucket under the weights' hash; the record says who, why, which licence."""
    files = _files(tmp_path)
    row = register_origin(ctx, TASK, files, ENTRY)
    assert row.weights_sha256 == sha256_of(files.weights.read_bytes())
    assert row.model_id == sha256_of(files.onnx.read_bytes())
    assert ctx.store.get(row.weights_key) == files.weights.read_bytes()
    assert ctx.store.get(row.onnx_key) == files.onnx.read_bytes()
    assert (row.licence, row.reason, row.entered_by, row.class_list_version) == (
        "AGPL-3.0-or-later", "trained on the old line", "anna", 1,
    )  # fmt: skip
    again = register_origin(ctx, TASK, files, Entry("other", "other", "other"))
    assert again.reason == "trained on the old line"
    assert len(origins(ctx, TASK)) == 1


def test_before_the_first_release_another_export_replaces_the_origin(ctx: Context, tmp_path: Path) -> None:
    """The same weights with another ONNX file are one origin whose record and file are the newer export's."""
    files = _files(tmp_path)
    first = register_origin(ctx, TASK, files, ENTRY)
    second = register_origin(ctx, TASK, _exported_again(files), Entry("MIT", "larger images", "ben"))
    assert second.model_id == sha256_of(files.onnx.read_bytes()) != first.model_id
    assert sha256_of(ctx.store.get(second.onnx_key)) == second.model_id
    (kept,) = origins(ctx, TASK)
    assert (kept.model_id, kept.reason) == (second.model_id, "larger images")


def test_after_the_first_release_an_origin_stays_as_it_was(ctx: Context, tmp_path: Path) -> None:
    """The champion's file lies under the origin's key: another export of the weights must not replace it."""
    files = _files(tmp_path)
    first = register_origin(ctx, TASK, files, ENTRY)
    set_champion(ctx, TASK, _promotion(1))
    again = register_origin(ctx, TASK, _exported_again(files), Entry("MIT", "larger images", "ben"))
    assert again.model_id == first.model_id == sha256_of(ctx.store.get(first.onnx_key))


def _exported_again(files: OriginFiles) -> OriginFiles:
    """Change the ONNX file as an export for another image size would."""
    model = onnx.load(str(files.onnx))
    model.doc_string = "exported again"
    onnx.save(model, str(files.onnx))
    return files


@pytest.mark.parametrize("names", [CLASSES[::-1], ("scratch",), (*CLASSES, "stain")])
def test_a_model_of_other_classes_is_no_origin(ctx: Context, tmp_path: Path, names: tuple[str, ...]) -> None:
    """Its ids would mean something else; nothing is stored."""
    with pytest.raises(ClassListConflict, match=r"base\.onnx"):
        register_origin(ctx, TASK, _files(tmp_path, names), ENTRY)
    assert list(ctx.store.list(f"tasks/{TASK}/origins/")) == []


def test_a_model_that_does_not_describe_itself_is_no_origin(ctx: Context, tmp_path: Path) -> None:
    """Without its class list nobody knows what it detects."""
    with pytest.raises(ModelFileError):
        register_origin(ctx, TASK, _files(tmp_path, described=False), ENTRY)


def _promotion(version: int) -> Promotion:
    return Promotion(
        release_version=version, model_id=f"{version:064d}", onnx_key="o", weights_key="w", weights_sha256="b" * 64,
        weights_bytes=1, class_list_version=1, reason="gate passed", run_id=f"run-{version}",
    )  # fmt: skip


def test_the_newest_promotion_is_the_champion(ctx: Context) -> None:
    """Promotions are only added; the same one again changes nothing; going back is a promotion too."""
    assert champion(ctx, TASK) is None
    for version in (1, 2, 2, 1):
        set_champion(ctx, TASK, _promotion(version))
    row = champion(ctx, TASK)
    assert row is not None
    assert (row.release_version, row.kind) == (1, "run")
    with ctx.database.reader() as session:
        assert session.scalar(select(func.count()).select_from(ChampionRow)) == 3
    assert champion(ctx, "boards") is None


DECISION = """
[tasks.boards.decision]
min_frames = 2
min_area_px = { scratch = 40.0 }

[[tasks.boards.decision.regions]]
name = "clamp"
kind = "exclude"
camera = "cam-1"
polygon = [[0.1, 0.1], [0.3, 0.1], [0.3, 0.4]]
"""


def test_decision_settings_are_read_written_and_handed_to_the_gate(tmp_path: Path) -> None:
    """What a person writes about decisions survives a round trip and reaches the choice of rules."""
    (tmp_path / "whetstone.toml").write_text(DECISION)
    settings = load_settings(tmp_path)
    write_settings(tmp_path, settings)
    assert load_settings(tmp_path) == settings
    options = settings.task("boards").decision.options()
    assert (options.min_frames, options.min_area_px) == (2, {"scratch": 40.0})
    assert [(region.name, region.kind, region.camera) for region in options.regions] == [
        ("clamp", "exclude", "cam-1")
    ]


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ('kind = "exclude"\nshape = 1', "shape"),
        ('kind = "outside"', "'include' or 'exclude'"),
        ("polygon = [[0.1, 0.1], [0.3, 0.1], [0.2, 0.1]]", "no area"),
    ],
)
def test_a_wrong_region_is_refused_with_its_place(tmp_path: Path, wrong: str, problem: str) -> None:
    """The error names file, key and what is wrong, before anything is trained."""
    lines = [
        line
        for line in DECISION.splitlines()
        if line.split(" ")[0] not in wrong.replace("\n", " ").split(" ")
    ]
    (tmp_path / "whetstone.toml").write_text("\n".join([*lines, wrong]))
    with pytest.raises(SettingsError, match=problem) as caught:
        load_settings(tmp_path)
    assert "tasks.boards.decision.regions.0" in str(caught.value)
