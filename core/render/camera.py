"""A camera that follows one body or a pair: where it stands and where it looks. Pure numpy, no OpenGL."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d

FIELD_OF_VIEW = np.deg2rad(30.0)  # vertical
DIRECTION = np.array([-0.42, -0.24, -1.0]) / np.linalg.norm(
    [-0.42, -0.24, -1.0]
)  # from in front, the body's left, above
SMOOTHING_S = 0.35  # standard deviation of the filter on the camera's path
SHARED_RADIUS_M = 0.45  # how far a body may leave the middle of the pair before its pane goes after it
MARGIN = 1.04  # room around the bodies


def camera_poses(bodies: list[np.ndarray], fps: float, aspect: float) -> np.ndarray:
    """Camera poses (panes, F, 4, 4), camera to world, -Z forward, for one or two bodies (F, V, 3).

    All panes see from the same direction and distance, at which every frame fits. aspect: width / height of a pane.
    """
    targets, low, high = _targets(bodies, fps)
    poses = np.broadcast_to(look_along(DIRECTION), (*targets.shape[:2], 4, 4)).copy()
    poses[..., :3, 3] = targets - DIRECTION * _distance(targets, low, high, aspect)
    return poses


def look_along(direction: np.ndarray) -> np.ndarray:
    """(4, 4) pose at the origin whose -Z axis is `direction` (3,) and whose Y axis is as near to up as it gets."""
    pose = np.eye(4)
    pose[:3, 2] = -direction / np.linalg.norm(direction)
    pose[:3, 0] = np.cross([0.0, 1.0, 0.0], pose[:3, 2])
    pose[:3, 0] /= np.linalg.norm(pose[:3, 0])
    pose[:3, 1] = np.cross(pose[:3, 2], pose[:3, 0])
    return pose


def _targets(bodies: list[np.ndarray], fps: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where each pane looks, and the corners of each body's box; all (panes, F, 3).

    All panes look at the smoothed middle of the pair; when a body is further than SHARED_RADIUS_M from it, its own
    pane follows. The shorter of two bodies is held.
    """
    frames = np.arange(max(len(body) for body in bodies))
    held = [np.minimum(frames, len(body) - 1) for body in bodies]
    low = np.stack([body.min(axis=1)[i] for body, i in zip(bodies, held, strict=True)])
    high = np.stack([body.max(axis=1)[i] for body, i in zip(bodies, held, strict=True)])
    centre = np.stack([body.mean(axis=1)[i] for body, i in zip(bodies, held, strict=True)])
    middle = centre.mean(axis=0)
    offset = (centre - middle) * (1.0, 0.0, 1.0)
    distance = np.linalg.norm(offset, axis=-1, keepdims=True)
    targets = middle + offset * np.maximum(0.0, 1.0 - SHARED_RADIUS_M / np.maximum(distance, 1e-9))
    targets[..., 1] = 0.5 * (high[..., 1].max() + min(low[..., 1].min(), 0.0))
    return _smooth(targets, SMOOTHING_S * fps), low, high


def _smooth(paths: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian filter along axis 1 that keeps the speed at both ends (odd reflection)."""
    margin = int(np.ceil(3 * sigma))
    padded = np.pad(paths, ((0, 0), (margin, margin), (0, 0)), mode="reflect", reflect_type="odd")
    return gaussian_filter1d(padded, sigma, axis=1, truncate=3)[:, margin : margin + paths.shape[1]]


def _distance(targets: np.ndarray, low: np.ndarray, high: np.ndarray, aspect: float) -> float:
    """Metres from target to camera at which the boxes (panes, F, 3) stay inside the picture in every frame."""
    picks = np.array(np.meshgrid([0, 1], [0, 1], [0, 1])).reshape(3, 8).T[:, None, None]  # (8, 1, 1, 3)
    corners = np.where(picks == 0, low, high) - targets  # (8, panes, F, 3)
    right, up, back = np.moveaxis(corners @ look_along(DIRECTION)[:3, :3], -1, 0)
    tangent = np.tan(FIELD_OF_VIEW / 2)
    needed = np.maximum(np.abs(right) / aspect, np.abs(up)) * MARGIN / tangent + back
    return float(max(needed.max(), 1.0))
