"""Write the report's page: plain HTML beside its pictures, readable without a network."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flows.files import write_file

FILE_NAME = "index.html"
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:1120px;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;margin:1em 0}"
    "td,th{border:1px solid #ccc;padding:.3em .7em;text-align:left}"
    "th{background:#f3f3f3}img{max-width:100%;border:1px solid #ccc}figcaption{color:#555}"
    ".note{background:#fff7df;padding:.6em 1em;border-left:4px solid #e0b000}"
)


@dataclass(frozen=True, slots=True)
class Table:
    """Hold a table's title, head and rows; every cell is text."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """Name a picture that lies beside the page."""

    file: str
    caption: str


@dataclass(frozen=True, slots=True)
class Page:
    """Hold what the page says, in order: notes, tables, pictures."""

    title: str
    notes: tuple[str, ...]
    tables: tuple[Table, ...]
    pictures: tuple[Picture, ...] = field(default=())


def write_page(folder: Path, page: Page) -> Path:
    """Write the page and return its file."""
    body = [f"<h1>{html.escape(page.title)}</h1>"]
    body += [f'<p class="note">{html.escape(note)}</p>' for note in page.notes]
    body += [_table(table) for table in page.tables]
    body += [
        f'<figure><img src="{html.escape(one.file)}" alt="{html.escape(one.caption)}">'
        f"<figcaption>{html.escape(one.caption)}</figcaption></figure>"
        for one in page.pictures
    ]
    text = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(page.title)}</title>'
        f"<style>{_STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )
    path = folder / FILE_NAME
    write_file(path, text.encode())
    return path


def _table(table: Table) -> str:
    head = _row(table.head, "th")
    rows = "".join(_row(row, "td") for row in table.rows)
    return f"<h2>{html.escape(table.title)}</h2><table>{head}{rows}</table>"


def _row(cells: Sequence[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"
