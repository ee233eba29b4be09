"""Write the table of every configuration key into docs/edge.md: `python -m tests.edge_reference`.

Names, bounds and defaults come from the sections themselves, words from the lines below each field.
"""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from edge_agent.config import AgentConfig
from edge_agent.settings.mistakes import models_in
from tests.helpers import ROOT

GUIDE = ROOT / "docs" / "edge.md"
BEGIN, END = "<!-- every key: written by python -m tests.edge_reference -->", "<!-- end of every key -->"
PLAIN = {
    int: "whole number",
    float: "number",
    str: "text",
    bool: "true or false",
    Path: "path",
}


def reference() -> str:
    """Return the tables, one per section."""
    lines: list[str] = []
    _section(AgentConfig, "", lines)
    return "\n".join(lines) + "\n"


def written(text: str) -> str:
    """Return the guide with the tables between their marks."""
    head, _, rest = text.partition(BEGIN)
    return f"{head}{BEGIN}\n{reference()}{END}{rest.partition(END)[2]}"


def _section(
    model: type[BaseModel], prefix: str, lines: list[str], *, but: frozenset[str] = frozenset()
) -> None:
    words = _words(model)
    inner: list[tuple[str, list[type[BaseModel]]]] = []
    rows = []
    for name, field in model.model_fields.items():
        models = models_in(field.annotation)
        if models:
            inner.append((f"{prefix}{name}", models))
        elif name not in but:
            row = (f"`{prefix}{name}`", _kind(field), _default(field), words.get(name, ""))
            rows.append(f"| {' | '.join(row)} |")
    if rows:
        lines += ["| key | value | default | |", "|---|---|---|---|", *rows, ""]
    for path, models in inner:
        common = _common(models)
        heading = f"`[[{path}]]`" if _is_list(model, path) else f"`[{path}]`"
        lines += [f"**{heading}** {_first_line(common)}", ""]
        if len(models) == 1:
            _section(models[0], f"{path}.", lines)
            continue
        _section(common, f"{path}.", lines)
        for one in models:
            kind = get_args(one.model_fields["kind"].annotation)[0]
            lines += [f'With `kind = "{kind}"`: {_first_line(one)}', ""]
            _section(one, f"{path}.", lines, but=_as_in(common, one))


def _as_in(common: type[BaseModel], one: type[BaseModel]) -> frozenset[str]:
    """Return the fields that say nothing new: those with the common default, and the kind itself."""
    same = {
        name for name, field in common.model_fields.items() if one.model_fields[name].default == field.default
    }
    return frozenset({*same, "kind"})


def _common(models: list[type[BaseModel]]) -> type[BaseModel]:
    return models[0] if len(models) == 1 else models[0].__mro__[1]


def _is_list(model: type[BaseModel], path: str) -> bool:
    return get_origin(model.model_fields[path.rpartition(".")[2]].annotation) is tuple


def _first_line(model: type[BaseModel]) -> str:
    return (inspect.getdoc(model) or "").splitlines()[0]


def _kind(field: FieldInfo) -> str:
    annotation, bounds = field.annotation, []
    for one in field.metadata:
        bounds += [f"{word} {getattr(one, name):g}" for name, word in
                   (("ge", "from"), ("gt", "above"), ("le", "to"), ("lt", "below"))
                   if isinstance(getattr(one, name, None), (int, float))]  # fmt: skip
    return f"{_type(annotation)} {' '.join(bounds)}".strip()


def _type(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return ", ".join(f'`"{one}"`' for one in get_args(annotation))
    parts = [one for one in get_args(annotation) if one is not type(None) and one is not Ellipsis]
    if get_origin(annotation) in (tuple, list):
        return "list"
    if get_origin(annotation) is dict:
        return "table"
    if parts:
        return _type(parts[0])
    return PLAIN.get(annotation, "")


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return "none"
    if isinstance(value, (tuple, list)):
        return "`[" + ", ".join(f'"{one}"' for one in value) + "]`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, (int, float)):
        return f"`{value:g}`"
    return "`{}`" if isinstance(value, dict) else f'`"{value}"`'


def _words(model: type[BaseModel]) -> dict[str, str]:
    """Return the docstring below each field, of this class and those it comes from."""
    words: dict[str, str] = {}
    for one in reversed(model.__mro__):
        if not issubclass(one, BaseModel) or one is BaseModel:
            continue
        body = ast.parse(inspect.getsource(one)).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, below in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                words.pop(field.target.id, None)
                if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                    text = re.sub(r"\s+", " ", str(below.value.value)).strip()
                    words[field.target.id] = text.replace("|", "\\|")
    return words


if __name__ == "__main__":
    GUIDE.write_text(written(GUIDE.read_text(encoding="utf-8")), encoding="utf-8")
