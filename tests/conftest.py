"""Keep one room's libraries out of another room's tests.

Tests of the trainer's child import ultralytics into this process, which puts its own function in the place of
Pillow's; the cloud's and the box's processes never import it, so their tests get Pillow's own back.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from PIL import Image

_PILLOWS_OWN = Image.open


@pytest.fixture(autouse=True)
def pillow_as_installed(request: pytest.FixtureRequest) -> Iterator[None]:
    """Give Pillow its own `open` for every test outside the trainer's."""
    if "trainer" in request.path.parts:
        yield
        return
    patched, Image.open = Image.open, _PILLOWS_OWN
    yield
    Image.open = patched
