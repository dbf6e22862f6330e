"""One motion: features and what is needed to read them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from core.motion.features import CONVENTIONS, recover_joints
from core.motion.layout import check_features
from core.motion.skeleton import FPS


@dataclass(frozen=True, eq=False)
class Motion:
    """A single clip. Raises ValueError for another shape than (F, 263), numbers that are not finite, a bad fps or
    convention. The features are copied and read-only."""

    features: np.ndarray  # (F, 263) float32, de-normalised, see core.motion.layout
    fps: float = FPS  # frames per second
    convention: str = "smpl"  # see core.motion.features

    def __post_init__(self) -> None:
        features = check_features(self.features).astype(np.float32)  # a copy
        if features.ndim != 2:
            raise ValueError(f"features have shape {features.shape}, needed is (F, 263) of one clip.")
        if not np.isfinite(features).all():
            frame = int(np.flatnonzero(~np.isfinite(features).all(1))[0])
            raise ValueError(f"features hold a value that is not finite in frame {frame}. Generate the clip again.")
        if not (np.isfinite(self.fps) and self.fps > 0):
            raise ValueError(f"fps={self.fps} is not allowed. Give a positive number of frames per second.")
        if self.convention not in CONVENTIONS:
            raise ValueError(f"convention={self.convention!r} is unknown, allowed are {', '.join(CONVENTIONS)}.")
        features.flags.writeable = False
        object.__setattr__(self, "features", features)

    @property
    def n_frames(self) -> int:
        """F."""
        return len(self.features)

    @property
    def duration_s(self) -> float:
        """F / fps, seconds."""
        return self.n_frames / self.fps

    @cached_property
    def joints(self) -> np.ndarray:
        """(F, 22, 3) float32 metres, Y up, first frame at x = z = 0 facing +Z. Read-only."""
        joints = recover_joints(self.features)
        joints.flags.writeable = False
        return joints
