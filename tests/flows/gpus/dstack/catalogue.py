"""Be the place dstack reads prices from: gpuhunt's catalogue, small and ours, over HTTP."""

from __future__ import annotations

import csv
import io
import zipfile
from http.server import BaseHTTPRequestHandler
from typing import Any

from flows.gpus.served import Served

VERSION = "20261121-1"
_COLUMNS = (
    "instance_name", "location", "price", "cpu", "memory", "gpu_count", "gpu_name", "gpu_memory", "spot", "disk_size",
    "gpu_vendor", "flags", "cpu_arch", "provider_data",
)  # fmt: skip
RUNPOD: tuple[tuple[Any, ...], ...] = (
    ("NVIDIA GeForce RTX 4090", "EU-RO-1", 0.69, 16, 62, 1, "RTX4090", 24, False, "", "nvidia", "", "x86", "{}"),
    ("NVIDIA GeForce RTX 4090", "EU-RO-1", 0.34, 16, 62, 1, "RTX4090", 24, True, "", "nvidia", "", "x86", "{}"),
    ("NVIDIA A100 80GB PCIe", "US-KS-2", 1.64, 8, 117, 1, "A100", 80, False, "", "nvidia", "", "x86", "{}"),
    ("NVIDIA A100 80GB PCIe", "US-KS-2", 0.0, 8, 117, 1, "A100", 80, True, "", "nvidia", "", "x86", "{}"),
    ("NVIDIA RTX A6000", "CA-MTL-1", 0.98, 18, 100, 2, "A6000", 48, False, "", "nvidia", "", "x86", "{}"),
    ("AMD Instinct MI300X OAM", "EU-RO-1", 2.69, 24, 283, 1, "MI300X", 192, False, "", "amd", "", "x86", "{}"),
)  # fmt: skip
"""Name, region, price, cores, GiB of memory, cards, card, GiB of a card, spot, and so on."""


class Catalogue(Served):
    """Serve the catalogues of all providers, empty but for RunPod's; `with` starts and stops it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        super().__init__(_handler_of(self))

    def answer(self, path: str) -> bytes:
        """Return `<provider>/version`, or the zip file of that version."""
        self.asked.append(path)
        provider = path.strip("/").split("/")[0]
        return (
            VERSION.encode()
            if path.endswith("/version")
            else _zip(provider, RUNPOD if provider == "runpod" else ())
        )


def _zip(provider: str, rows: tuple[tuple[Any, ...], ...]) -> bytes:
    text, whole = io.StringIO(), io.BytesIO()
    table = csv.writer(text)
    table.writerows([_COLUMNS, *rows])
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr(f"{provider}.csv", text.getvalue())
    return whole.getvalue()


def _handler_of(catalogue: Catalogue) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = catalogue.answer(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing on stderr."""

    return Handler
