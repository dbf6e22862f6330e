from __future__ import annotations

import numpy as np
import pytest

from core.render.camera import DIRECTION, FIELD_OF_VIEW, MARGIN, camera_poses, look_along


def box(n_frames: int, velocity, half_width: float = 0.3, height: float = 1.8) -> np.ndarray:
    """The eight corners (F, 8, 3) of a body-sized box moving over the floor at 20 frames a second."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (0, 1) for z in (-1, 1)], float)
    corners *= (half_width, height, half_width)
    return corners + np.arange(n_frames)[:, None, None] / 20.0 * np.asarray(velocity)


def on_screen(points: np.ndarray, poses: np.ndarray, aspect: float) -> np.ndarray:
    """Project (F, V, 3) with (F, 4, 4) poses: x, y in -1..1 inside the picture."""
    local = np.einsum("fji,fvj->fvi", poses[:, :3, :3], points - poses[:, None, :3, 3])
    assert (local[..., 2] < 0).all(), "behind the camera"
    return local[..., :2] / -local[..., 2:] / np.tan(FIELD_OF_VIEW / 2) / (aspect, 1.0)


def test_look_along_is_a_rotation_with_y_up():
    pose = look_along(DIRECTION)
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1.0)
    assert pose[1, 1] > 0.9 and pose[1, 0] == pytest.approx(0.0)


@pytest.mark.parametrize("aspect", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("velocities", [[(0, 0, 1.2)], [(0, 0, 1), (0.4, 0, 0.7)], [(3, 0, 0), (-3, 0, 2)]])
def test_every_frame_of_every_body_is_in_the_picture(aspect, velocities):
    """Heads or feet cut off, bodies walking out of their pane, or bodies far too small."""
    bodies = [box(120, velocity) for velocity in velocities]
    poses = camera_poses(bodies, fps=20, aspect=aspect)
    screens = [on_screen(body, pose, aspect) for body, pose in zip(bodies, poses, strict=True)]
    extent = max(np.abs(screen).max() for screen in screens)
    assert 0.8 < extent <= 1.0 / MARGIN + 1e-6


def test_both_panes_share_the_camera_until_the_bodies_part():
    """A sliding body looks still when each camera simply follows its own body."""
    near = camera_poses([box(40, (0.2, 0, 1)), box(40, (-0.2, 0, 1))], fps=20, aspect=1.0)
    np.testing.assert_allclose(near[0], near[1], atol=1e-9)
    far = camera_poses([box(196, (4, 0, 0)), box(196, (-4, 0, 0))], fps=20, aspect=1.0)
    assert np.abs(far[0, -1, 0, 3] - far[1, -1, 0, 3]) > 70
    alone = camera_poses([box(196, (4, 0, 0))], fps=20, aspect=1.0)
    assert np.linalg.norm(far[0, 0, :3, 3] - alone[0, 0, :3, 3]) < 3, "the pair is seen from as near as one body"


def test_the_shorter_motion_is_held():
    """A pair of two lengths cut to the shorter one."""
    assert camera_poses([box(40, (0, 0, 1)), box(60, (0, 0, 1))], fps=20, aspect=1.0).shape == (2, 60, 4, 4)


def test_a_single_frame_has_a_camera():
    assert np.isfinite(camera_poses([box(1, (0, 0, 0))], fps=20, aspect=1.0)).all()
