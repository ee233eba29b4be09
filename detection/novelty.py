"""Tell how far a frame's feature vector lies from everything the model was trained on.

The trainer writes a `FeatureReference` into the ONNX file itself, so it is hashed, judged, signed and
shipped with the model it speaks of. The box measures every frame against it.

    >>> space = FeatureSpace(np.zeros(2, np.float32), np.ones(2, np.float32), clip=8.0)
    >>> reference = FeatureReference.build(space, np.zeros((1, 2)), (1.0, 2.0, 4.0))
    >>> reference.distance(np.array([0.0, 8.0], np.float32))
    2.0
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from detection.detections import Floats
from detection.errors import ModelFileError

FEATURES_KEY = "whetstone.features"
"""Metadata property that holds a `FeatureReference` as JSON."""
VERSION = 1
METHOD = "clipped-kmeans"
MAX_JSON_BYTES = 64 * 1024
MAX_CENTROIDS = 32
QUANTILES = (0.5, 0.95, 0.99)
"""Shares of the training images whose distances the reference tells."""
CLIP = 2.0
"""Spreads a dimension counts for at most; else one dimension that spikes decides alone.

Of a model for the synthetic line a black frame lies at 1.3, without the bound at 0.6.
"""


@dataclass(frozen=True, slots=True, eq=False)
class FeatureSpace:
    """Say where a feature vector lies once every dimension counts alike.

    Attributes:
        mean: (c,) of the training vectors.
        scale: (c,) one over the spread of each dimension.
        clip: spreads from the mean beyond which a dimension counts no more.
    """

    mean: Floats
    scale: Floats
    clip: float = CLIP

    def place(self, features: Floats) -> Floats:
        """Return the place of one vector (c,) or of many (n, c)."""
        with np.errstate(invalid="ignore", over="ignore"):
            point: Floats = (features - self.mean) * self.scale
        np.minimum(point, self.clip, out=point)
        np.maximum(point, -self.clip, out=point)
        return point


@dataclass(frozen=True, slots=True, eq=False)
class FeatureReference:
    """Hold what training knew, in a form that answers fast; made by `build` or `from_json`.

    Attributes:
        space: where vectors lie.
        centroids: (k, c) places that training images lie around.
        quantiles: distances that 50, 95 and 99 % of held-out training images stay below; the last is the
            unit of `distance`.
        squares: (k,) squared lengths of the centroids, so that no (k, c) difference is made per frame.
    """

    space: FeatureSpace
    centroids: Floats
    quantiles: tuple[float, float, float]
    squares: Floats

    @classmethod
    def build(
        cls,
        space: FeatureSpace,
        centroids: npt.ArrayLike,
        quantiles: tuple[float, float, float],
        *,
        where: str = "features",
    ) -> FeatureReference:
        """Build a reference.

        Raises:
            ModelFileError: shapes do not fit, or a number is not finite or not positive where it must be.
        """
        points: Floats = np.ascontiguousarray(centroids, np.float32)
        fits = points.ndim == 2 and 1 <= points.shape[0] <= MAX_CENTROIDS and points.shape[1] >= 1
        if not fits or space.scale.shape != (points.shape[1],) or space.mean.shape != space.scale.shape:
            raise ModelFileError(
                expected=f"centroids (k <= {MAX_CENTROIDS}, c), scale (c,), mean (c,)",
                got=f"{points.shape}, {space.scale.shape}, {space.mean.shape}",
                where=where,
            )
        finite = all(bool(np.isfinite(one).all()) for one in (points, space.mean, space.scale))
        if not finite or (space.scale <= 0).any() or not 0 < space.clip < math.inf:
            raise ModelFileError(expected="finite numbers, scale and clip above 0", got="others", where=where)
        if not 0 <= quantiles[0] <= quantiles[1] <= quantiles[2] < math.inf or quantiles[2] <= 0:
            raise ModelFileError(
                expected="three rising distances, the last above 0", got=str(quantiles), where=where
            )
        squares: Floats = np.einsum("kc,kc->k", points, points)
        return cls(space, points, quantiles, squares)

    @classmethod
    def from_json(cls, text: str, *, where: str) -> FeatureReference:
        """Read what the trainer wrote.

        Raises:
            ModelFileError: not JSON, of another version or method, or with arrays that do not fit.
        """
        where = f"metadata property {FEATURES_KEY!r} of {where}"
        if len(text) > MAX_JSON_BYTES:
            raise ModelFileError(expected=f"at most {MAX_JSON_BYTES} bytes", got=f"{len(text)}", where=where)
        try:
            row = json.loads(text)
            kind = (row["version"], row["method"])
            low, high, most = (float(one) for one in row["quantiles"])
            space = FeatureSpace(_from_text(row["mean"]), _from_text(row["scale"]), float(row["clip"]))
            centroids = _from_text(row["centroids"]).reshape(-1, max(space.mean.size, 1))
        except (ValueError, TypeError, KeyError, binascii.Error) as error:
            raise ModelFileError(
                expected="a feature reference as JSON", got=f"{type(error).__name__}: {error}", where=where
            ) from error
        if kind != (VERSION, METHOD):
            raise ModelFileError(expected=f"{(VERSION, METHOD)}", got=f"{kind}", where=where)
        return cls.build(space, centroids, (low, high, most), where=where)

    def to_json(self) -> str:
        """Write the reference; arrays are float16, so what is read back differs by a thousandth."""
        row: dict[str, Any] = {
            "version": VERSION,
            "method": METHOD,
            "quantiles": [round(one, 6) for one in self.quantiles],
            "clip": self.space.clip,
            "mean": _to_text(self.space.mean),
            "scale": _to_text(self.space.scale),
            "centroids": _to_text(self.centroids),
        }
        return json.dumps(row, sort_keys=True, separators=(",", ":"))

    @property
    def dimensions(self) -> int:
        """Return the length of the vectors it speaks of."""
        return int(self.space.mean.shape[0])

    def distance(self, features: Floats) -> float:
        """Return the distance to the nearest centroid; 1.0 is what 99 % of training images stay below.

        A vector with a number that is not a number is infinitely far.

        Raises:
            ModelFileError: the vector has another length than the reference.
        """
        if features.shape != self.space.mean.shape:
            raise ModelFileError(
                expected=f"features of shape {self.space.mean.shape}",
                got=str(features.shape),
                where=FEATURES_KEY,
            )
        point = self.space.place(features)
        squared = float(np.dot(point, point) + (self.squares - 2.0 * (self.centroids @ point)).min())
        if math.isnan(squared):
            return math.inf
        return math.sqrt(max(squared, 0.0)) / self.quantiles[2]


def _to_text(values: Floats) -> str:
    return base64.b64encode(values.astype("<f2").tobytes()).decode("ascii")


def _from_text(text: str) -> Floats:
    raw = base64.b64decode(text, validate=True)
    values: Floats = np.frombuffer(raw, "<f2").astype(np.float32)
    return values
