"""Put a report between two markers of a document, so that text around it stays."""

from __future__ import annotations

from pathlib import Path


def put_between(document: Path, markers: tuple[str, str], report: str) -> None:
    """Replace what stands between the markers.

    Raises:
        ValueError: the document does not have both.
    """
    begin, end = markers
    head, found, rest = document.read_text(encoding="utf-8").partition(begin)
    _, closed, tail = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"expected the lines {begin!r} and {end!r} in {document}")
    document.write_text(f"{head}{begin}\n\n{report.strip()}\n\n{end}{tail}", encoding="utf-8")
