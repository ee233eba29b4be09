"""Run MLflow's own tracking server on loopback, from the package we install: its REST handlers, by Flask.

`mlflow server` itself needs the full package with pandas, pyarrow and others, for pages that are not tested here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from tests.helpers import free_port, missing, wait_until


@contextmanager
def mlflow_server(folder: Path, port: int | None = None) -> Iterator[str]:
    """Serve a store in a folder until the block ends, and return its URL."""
    if find_spec("mlflow") is None or find_spec("flask") is None or find_spec("flask_cors") is None:
        missing("MLflow's server", "pip install mlflow-skinny flask flask-cors")
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    env = {
        **os.environ,
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{folder / 'server.db'}",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(folder / "artifacts"),
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    command = [sys.executable, "-m", "flask", "--app", "mlflow.server:app", "run", "--port", str(port)]
    with (folder / "server.log").open("ab") as log:
        server = subprocess.Popen(command, env=env, cwd=folder, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        # Its first real answer comes after it has made its tables, which takes seconds on a busy machine.
        asked = f"{url}/api/2.0/mlflow/experiments/search?max_results=1"
        wait_until(lambda: _answers(asked), 120, "MLflow's server to answer")
        yield url
    finally:
        server.terminate()
        server.wait(30)


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False
