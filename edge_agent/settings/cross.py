"""Check what no section can check alone or what two keys only say together; pure, one function per rule.

Every rule gets the sections that are right by themselves, so that its mistakes stand in one list with theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from edge_agent.settings.broker import BrokerConfig
from edge_agent.settings.camera import CameraConfig
from edge_agent.settings.care import CareConfig, MetricsConfig
from edge_agent.settings.mistakes import Mistake
from edge_agent.settings.privacy import PrivacyConfig

Sections = Mapping[str, Any]
Rule = Callable[[Sections], Iterator[Mistake]]


def cross_mistakes(sections: Sections) -> tuple[Mistake, ...]:
    """Return what does not fit together; sections that are missing or wrong are passed over."""
    return tuple(mistake for rule in RULES for mistake in rule(sections))


def privacy_names_the_camera(sections: Sections) -> Iterator[Mistake]:
    """A mask for a camera that does not exist would hide nothing and nobody would notice."""
    privacy, camera = sections.get("privacy"), sections.get("camera")
    if not isinstance(privacy, PrivacyConfig) or not isinstance(camera, CameraConfig):
        return
    for index, mask in enumerate(privacy.masks):
        if mask.camera and mask.camera != camera.name:
            yield Mistake(f"privacy.masks[{index}].camera", f'"{camera.name}", the name of the camera, or ""',
                          f'"{mask.camera}"')  # fmt: skip


def metrics_port_is_free(sections: Sections) -> Iterator[Mistake]:
    """The exporter cannot listen where the broker of the same machine does."""
    metrics, broker = sections.get("metrics"), sections.get("broker")
    if not isinstance(metrics, MetricsConfig) or not isinstance(broker, BrokerConfig):
        return
    if metrics.port and metrics.port == broker.port and broker.host in ("127.0.0.1", "localhost", "::1"):
        yield Mistake("metrics.port", "a port the broker does not use", f"{metrics.port}")


def care_leaves_time(sections: Sections) -> Iterator[Mistake]:
    """An idle loop wakes once a second, so a deadline near that would call it hung."""
    care = sections.get("care")
    if isinstance(care, CareConfig) and care.loop_deadline_s < 2.0:
        yield Mistake("care.loop_deadline_s", "at least 2: an idle loop wakes once a second",
                      f"{care.loop_deadline_s:g}")  # fmt: skip


def silence_fits_the_camera(sections: Sections) -> Iterator[Mistake]:
    """A camera that is asked for fewer frames than an output expects would always count as silent."""
    camera = sections.get("camera")
    if not isinstance(camera, CameraConfig) or not camera.fps or camera.trigger is not None:
        return
    least_ms = 1500.0 / camera.fps
    for index, one in enumerate(sections.get("outputs") or ()):
        if 0.0 < one.silence_ms < least_ms:
            wanted = f"at least {least_ms:g} at camera.fps = {camera.fps:g}, or 0"
            yield Mistake(f"outputs[{index}].silence_ms", wanted, f"{one.silence_ms:g}")


RULES: tuple[Rule, ...] = (
    privacy_names_the_camera,
    metrics_port_is_free,
    care_leaves_time,
    silence_fits_the_camera,
)
