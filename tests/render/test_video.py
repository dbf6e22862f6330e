from __future__ import annotations

import imageio.v3 as iio
import numpy as np
import pytest
import trimesh

from core.render.video import (
    normal_operator,
    render_frame,
    render_pair_mp4,
    vertex_normals,
)

SIZE = (192, 96)


def walker(n_frames: int = 6, velocity=(0.0, 0.0, 1.0), start=(0.0, 0.0, 0.0)) -> tuple[np.ndarray, np.ndarray]:
    """A standing capsule (F, V, 3) that slides over the floor, 20 frames a second, and its faces."""
    capsule = trimesh.creation.capsule(height=1.3, radius=0.2, count=[12, 12])
    vertices = np.asarray(capsule.vertices, np.float32)[:, [1, 2, 0]]  # the capsule's axis is Z
    vertices[:, 1] -= vertices[:, 1].min()
    path = np.asarray(start) + np.arange(n_frames)[:, None] / 20.0 * np.asarray(velocity)
    return (vertices + path[:, None]).astype(np.float32), np.asarray(capsule.faces)


@pytest.fixture(scope="module")
def can_draw() -> None:
    vertices, faces = walker(1)
    try:
        render_frame(vertices[0], None, faces, size=(32, 32))
    except RuntimeError as error:
        pytest.skip(str(error))


def blue_and_orange(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rgb = picture.astype(int)
    return rgb[..., 2] > rgb[..., 0] + 35, rgb[..., 0] > rgb[..., 2] + 35


def test_video_holds_every_frame_and_moves(can_draw, tmp_path):
    """A cut, black or frozen video."""
    left, faces = walker(6)
    right, _ = walker(4, velocity=(1.0, 0.0, 0.0))
    steps = []
    path = render_pair_mp4(
        tmp_path / "new" / "pair.mp4", left, right, faces, size=SIZE, progress=lambda i, n: steps.append((i, n))
    )
    frames = iio.imread(path, plugin="FFMPEG")
    assert frames.shape == (6, SIZE[1], SIZE[0], 3)
    assert steps == [(i, 6) for i in range(1, 7)]
    assert frames.mean() > 40
    assert np.abs(frames[0].astype(int) - frames[5]).max() > 25
    assert iio.immeta(path, plugin="FFMPEG")["fps"] == 20


def test_left_motion_is_drawn_in_the_left_pane_only(can_draw):
    """Panes swapped, or the second pane's clear wiping the first."""
    vertices, faces = walker(1)
    blue, orange = blue_and_orange(render_frame(vertices[0], vertices[0], faces, size=SIZE))
    half = SIZE[0] // 2
    assert blue[:, :half].sum() > 200 and orange[:, half:].sum() > 200
    assert blue[:, half:].sum() == 0 and orange[:, :half].sum() == 0


def test_body_stands_upright_above_its_shadow(can_draw):
    """A picture upside down, or a floor that is not there."""
    vertices, faces = walker(1)
    picture = render_frame(vertices[0], None, faces, size=(96, 96)).astype(int)
    blue, _ = blue_and_orange(picture)
    rows, columns = np.nonzero(blue)
    assert np.ptp(rows) > 2 * np.ptp(columns)
    assert picture[-20:].std() > picture[:5].std() + 5, "tiles below, plain background above"


def test_buffers_are_overwritten_between_frames_and_jobs(can_draw):
    """The second body of the same topology shown with the first one's vertices."""
    low, faces = walker(1)
    wide = low * (2.0, 1.0, 2.0)
    narrow_pixels = blue_and_orange(render_frame(low[0], None, faces, size=(96, 96)))[0].sum()
    wide_pixels = blue_and_orange(render_frame(wide[0], None, faces, size=(96, 96)))[0].sum()
    assert wide_pixels > 1.4 * narrow_pixels
    assert blue_and_orange(render_frame(low[0], None, faces, size=(96, 96)))[0].sum() == narrow_pixels


def test_cancelling_leaves_the_old_file_and_no_rubbish(can_draw, tmp_path):
    """A half-written video in place of a whole one, or a job that blocks the next one for ever."""

    class Cancelled(Exception):
        pass

    def stop(step: int, total: int) -> None:
        if step == 2:
            raise Cancelled

    target = tmp_path / "pair.mp4"
    target.write_bytes(b"old")
    vertices, faces = walker(6)
    with pytest.raises(Cancelled):
        render_pair_mp4(target, vertices, vertices, faces, size=SIZE, progress=stop)
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["pair.mp4"]
    assert render_pair_mp4(target, vertices, None, faces, size=(64, 64)).stat().st_size > 500


def test_normals_of_a_sphere_point_outwards():
    """Normals flipped, or not of unit length."""
    sphere = trimesh.creation.icosphere(subdivisions=2)
    vertices, faces = np.asarray(sphere.vertices, np.float32), np.asarray(sphere.faces)
    normals = vertex_normals(vertices, faces, normal_operator(len(vertices), faces))
    np.testing.assert_allclose(normals, vertices, atol=0.03)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"left": np.zeros((3, 5))}, r"shape \(3, 5\)"),
        ({"left": np.full((2, 5, 3), np.nan)}, "NaN"),
        ({"right": np.zeros((2, 6, 3))}, "5 and 6 vertices"),
        ({"faces": np.array([[0, 1, 9]])}, "vertex 9"),
        ({"size": (101, 50)}, "size=.*even"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(change, message, tmp_path):
    arguments = {"left": np.zeros((2, 5, 3)), "right": None, "faces": np.array([[0, 1, 4]]), "size": SIZE} | change
    with pytest.raises(ValueError, match=message):
        render_pair_mp4(
            tmp_path / "x.mp4", arguments["left"], arguments["right"], arguments["faces"], size=arguments["size"]
        )
    assert not list(tmp_path.iterdir())
