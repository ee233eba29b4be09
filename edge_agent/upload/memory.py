"""Be a store without a network: the in-memory twin of `http`."""

from __future__ import annotations

from edge_agent.errors import StoreAway, UploadRefused


class MemoryPutter:
    """Keep what is put, by URL; it can be away, and it can refuse."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.is_away = False
        self.refused: set[str] = set()
        self.puts: list[str] = []

    def put(self, url: str, content: bytes, media_type: str) -> None:
        """Keep the bytes under their URL."""
        self.puts.append(url)
        if self.is_away:
            raise StoreAway(expected="a store", got="none", where="memory")
        if url in self.refused:
            raise UploadRefused(expected="a valid URL", got="403", where="memory")
        self.objects[url] = content

    def close(self) -> None:
        """Do nothing."""
