"""Hold later versions to what earlier ones wrote."""

from __future__ import annotations

import json

import pytest

from fleet_contracts import MalformedDocument, WireDocument, decode, encode
from fleet_contracts.base import Value
from tests.fleet_contracts.examples import GOLDEN, examples

EXAMPLES = examples()


def _all_documents(kind: type[WireDocument]) -> set[type[WireDocument]]:
    found = set(kind.__subclasses__())
    return found | {deeper for child in found for deeper in _all_documents(child)}


def test_every_wire_document_has_a_golden_file() -> None:
    """A document without a golden file could change without anybody noticing."""
    covered = {type(document) for document in EXAMPLES.values()}
    ours = {kind for kind in _all_documents(WireDocument) if kind.__module__.startswith("fleet_contracts")}
    assert ours - covered == set()
    assert {path.stem for path in GOLDEN.glob("*.json")} >= set(EXAMPLES)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_golden_file_is_read_and_written_back_unchanged(name: str) -> None:
    """What an earlier version wrote is read, and written back with nothing lost or changed."""
    content = (GOLDEN / f"{name}.json").read_bytes()
    document = decode(type(EXAMPLES[name]), content, where=name)
    before, after = json.loads(content), json.loads(encode(document))
    assert _common(after, before) == before


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_unknown_fields_survive_at_every_level(name: str) -> None:
    """An old box sends back what a newer server wrote, fields it has never heard of included."""
    data = json.loads(encode(EXAMPLES[name]))
    marked = _mark(data)
    kept = json.loads(encode(decode(type(EXAMPLES[name]), json.dumps(marked).encode(), where=name)))
    assert _common(kept, marked) == marked


def _common(after: object, before: object) -> object:
    """Return `after` without the fields that a later version added with a default."""
    if isinstance(after, dict) and isinstance(before, dict):
        return {key: _common(item, before[key]) for key, item in after.items() if key in before}
    if isinstance(after, list) and isinstance(before, list) and len(after) == len(before):
        return [_common(one, other) for one, other in zip(after, before, strict=True)]
    return after


def _mark(value: object) -> object:
    free_maps = {"slices", "policy", "put_urls", "get_urls", "versions", "losses", "measures", "parts", "kept", "data",
                 "terms", "val", "campaigns"}  # fmt: skip
    if isinstance(value, dict):
        inner = {key: item if key in free_maps else _mark(item) for key, item in value.items()}
        return {**inner, "added_in_2031": [1, {"two": None}]}
    if isinstance(value, list):
        return [_mark(item) for item in value]
    return value


def test_error_names_file_and_every_wrong_field() -> None:
    """A broken document is refused with its place and all its faults at once."""
    with pytest.raises(MalformedDocument) as caught:
        decode(type(EXAMPLES["receipt.v1"]), b'{"task_id": "UPPER", "items": []}', where="samples/x.json")
    message = str(caught.value)
    assert "samples/x.json" in message
    assert "task_id" in message
    assert "items" in message
    assert "device_id" in message


def test_documents_cannot_be_changed() -> None:
    """A document that was checked stays as it was checked."""
    document: Value = EXAMPLES["rollout.v1"]
    with pytest.raises(ValueError, match="frozen"):
        document.state = "failed"  # type: ignore[attr-defined]
