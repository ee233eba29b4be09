"""Answer Prometheus over HTTP; a scrape reads what is there and never holds the loop."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Metric, ProcessCollector, start_http_server
from prometheus_client.registry import Collector

from edge_agent.events import Events
from edge_agent.metrics.families import families
from edge_agent.metrics.sources import MetricSources
from edge_agent.settings.care import MetricsConfig

logger = logging.getLogger("whetstone.edge.metrics")
PROBLEM = "metrics.failed"


class AgentCollector(Collector):
    """Give the agent's families; one scrape at a time.

    A disk that hangs holds the outbox, and with it a scrape: the next ones then get nothing rather than a
    thread more each.
    """

    def __init__(self, sources: MetricSources) -> None:
        self._sources = sources
        self._busy = threading.Lock()

    def collect(self) -> Iterator[Metric]:
        """Give every family, or nothing while another scrape still waits."""
        if not self._busy.acquire(blocking=False):
            return
        try:
            yield from families(self._sources)
        finally:
            self._busy.release()

    def describe(self) -> Iterator[Metric]:
        """Give nothing: registering must not read."""
        return iter(())


class Exporter:
    """Listen where the configuration says; a port that is taken is a problem, never a reason not to start."""

    def __init__(self, config: MetricsConfig, sources: MetricSources, events: Events) -> None:
        self._config = config
        self._events = events
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(AgentCollector(sources))
        ProcessCollector(registry=self.registry)
        self._server: object | None = None

    def start(self) -> None:
        """Begin to listen, if a port is configured."""
        if not self._config.port:
            return
        where = f"{self._config.host}:{self._config.port}"
        try:
            self._server, _ = start_http_server(self._config.port, self._config.host, self.registry)
        except OSError as error:
            self._events.set_problem(PROBLEM, f"{where}: {error.strerror or error}")
        else:
            self._events.note("metrics.listening", where=where)

    def stop(self) -> None:
        """Listen no more; scrapes that run are not waited for."""
        server, self._server = self._server, None
        if server is not None:
            threading.Thread(target=server.shutdown, daemon=True).start()  # type: ignore[attr-defined]
            server.server_close()  # type: ignore[attr-defined]
