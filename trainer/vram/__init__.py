"""Know a training's memory before a GPU is rented: trace small on a processor, scale, replay the allocator.

Nothing here imports torch; the trace runs in a child process.

profile = profile_of("yolo11n.yaml", 80, cache=folder)
estimate = estimate_vram(profile, TrainingShape(image_size=640, batch=16, precision="bf16"))
"""

from trainer.vram.calibration import Calibration, load_calibration
from trainer.vram.errors import EstimateRefused
from trainer.vram.estimate import estimate_vram, naive_estimate
from trainer.vram.profile import ModelProfile, sketched_profile
from trainer.vram.profiling import profile_of
from trainer.vram.shape import TrainingShape

__all__ = [
    "Calibration",
    "EstimateRefused",
    "ModelProfile",
    "TrainingShape",
    "estimate_vram",
    "load_calibration",
    "naive_estimate",
    "profile_of",
    "sketched_profile",
]
