"""Bodies as a video file or a still picture, side by side on one floor.

All drawing happens in one thread that lives as long as the process, because an OpenGL context belongs to the thread
that made it; callers from any thread wait their turn. Encoding runs in the calling thread while the next frame is
drawn. Nothing of OpenGL is imported before the first picture is wanted.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_matrix

from core import UnavailableError
from core.motion.skeleton import FPS
from core.render.camera import camera_poses

if TYPE_CHECKING:
    from core.render.gl import PaneRenderer

Progress = Callable[[int, int], None]

SIZE = (960, 480)  # pixels, width x height
LABEL_SHARE = 0.07  # height of the letters A and B, of the picture's height

_gl_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="opengl")
_one_job = threading.Lock()


def render_pair_mp4(
    path: str | Path,
    vertices_left: np.ndarray,
    vertices_right: np.ndarray | None,
    faces: np.ndarray,
    fps: float = FPS,
    size: tuple[int, int] = SIZE,
    progress: Progress | None = None,
) -> Path:
    """Write an H.264 video of one body, or of two in two panes lettered A and B under one camera.

    vertices_left, vertices_right: (F, V, 3) metres, Y up, floor at 0; the shorter of two holds its last pose.
    faces: (T, 3) vertex indices, counter-clockwise from outside. size: width and height in pixels, even; a pair
    splits the width. progress(step, total) runs in the calling thread after each frame; raising from it cancels.
    Returns `path`, which is written whole or not at all. Raises ValueError for wrong shapes and UnavailableError where
    this machine cannot draw.
    """
    bodies = _check_bodies([vertices_left, vertices_right], faces, size)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=".mp4")
    os.close(handle)
    try:
        _encode(Path(temporary), _frames(bodies, faces, fps, size), fps, size, max(map(len, bodies)), progress)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return path


def render_frame(
    vertices_left: np.ndarray,
    vertices_right: np.ndarray | None,
    faces: np.ndarray,
    size: tuple[int, int] = SIZE,
) -> np.ndarray:
    """One still of one or two bodies (V, 3) as (H, W, 3) uint8; otherwise as `render_pair_mp4`."""
    stills = [None if v is None else np.asarray(v)[None] for v in (vertices_left, vertices_right)]
    frames = _frames(_check_bodies(stills, faces, size), faces, FPS, size)
    try:
        return next(frames)
    finally:
        frames.close()


# ---------------------------------------------------------------------------------------------------- geometry


def normal_operator(n_vertices: int, faces: np.ndarray) -> csr_matrix:
    """Sparse (V, T) that adds up the normals of the faces around each vertex."""
    n_faces = len(faces)
    columns = np.repeat(np.arange(n_faces), 3)
    ones = np.ones(3 * n_faces, np.float32)
    return csr_matrix((ones, (faces.ravel(), columns)), shape=(n_vertices, n_faces))


def vertex_normals(vertices: np.ndarray, faces: np.ndarray, operator: csr_matrix) -> np.ndarray:
    """Unit vertex normals (V, 3) float32 of vertices (V, 3), weighted by face area; zero where no face is."""
    a, b, c = vertices[faces[:, 0]], vertices[faces[:, 1]], vertices[faces[:, 2]]
    u, v = b - a, c - a
    face_normals = np.empty_like(u)
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        face_normals[:, i] = u[:, j] * v[:, k] - u[:, k] * v[:, j]
    normals = operator @ face_normals
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


# ---------------------------------------------------------------------------------------------------- drawing


def _check_bodies(bodies: list[np.ndarray | None], faces: np.ndarray, size: tuple[int, int]) -> list[np.ndarray]:
    present = [np.asarray(body, np.float32) for body in bodies if body is not None]
    if bodies[0] is None:
        raise ValueError("vertices_left is None; give at least the left body, (F, V, 3) in metres.")
    for body in present:
        if body.ndim != 3 or body.shape[2] != 3 or not len(body):
            raise ValueError(f"vertices have shape {body.shape}; give (F, V, 3) in metres with at least one frame.")
        if not np.isfinite(body).all():
            raise ValueError("vertices hold NaN or infinity; give finite positions in metres.")
        if body.shape[1] <= int(np.max(faces)):
            raise ValueError(f"faces name vertex {np.max(faces)} but there are {body.shape[1]}; give matching faces.")
    if len(present) == 2 and present[0].shape[1] != present[1].shape[1]:
        raise ValueError(f"the bodies have {present[0].shape[1]} and {present[1].shape[1]} vertices; use one body.")
    width, height = size
    if width % (2 * len(present)) or height % 2 or min(size) < 16:
        raise ValueError(f"size={size} cannot be encoded; use even numbers of at least 16, a width of 4 n for a pair.")
    return present


@cache
def _renderer() -> PaneRenderer:
    """The process's one renderer with its context; call it in the OpenGL thread only."""
    try:
        from core.render import gl
    except ImportError as error:
        raise UnavailableError(f"3D video needs an OpenGL driver ({error}); the player still works.") from error
    context = gl.open_context()
    renderer = gl.PaneRenderer()
    renderer.context = context  # lives as long as the renderer
    return renderer


def _frames(bodies: list[np.ndarray], faces: np.ndarray, fps: float, size: tuple[int, int]) -> Generator[np.ndarray]:
    """Yield (H, W, 3) pictures; the next one is drawn while the caller works on the last."""
    faces = np.asarray(faces)
    cameras = camera_poses(bodies, fps, aspect=size[0] / len(bodies) / size[1])  # (panes, F, 4, 4)
    total = cameras.shape[1]
    operator = normal_operator(bodies[0].shape[1], faces)
    labels = _labels(size) if len(bodies) == 2 else []
    with _one_job:
        renderer = _gl_thread.submit(_renderer).result()
        from core.render import gl  # imported by now, in the thread it belongs to

        stage = _gl_thread.submit(gl.Stage, bodies[0].shape[1], faces, len(bodies)).result()

        def draw(frame: int) -> np.ndarray:
            return renderer.draw(
                stage, [_pack(body, frame, faces, operator) for body in bodies], cameras[:, frame], size
            )

        pending = _gl_thread.submit(draw, 0)
        for i in range(total):
            picture = pending.result()
            if i + 1 < total:
                pending = _gl_thread.submit(draw, i + 1)
            yield _burn_in(picture, labels)


def _pack(body: np.ndarray, frame: int, faces: np.ndarray, operator: csr_matrix) -> np.ndarray:
    """Positions and normals (V, 6) float32 of one frame of (F, V, 3), the last one when there are no more."""
    vertices = body[min(frame, len(body) - 1)]
    return np.hstack([vertices, vertex_normals(vertices, faces, operator)])


def _labels(size: tuple[int, int]) -> list[tuple[int, int, np.ndarray]]:
    """(x, y, opacity (h, w)) of the letters A and B, one in the upper left corner of each pane."""
    from PIL import Image, ImageDraw, ImageFont

    width, height = size
    points = max(8, round(LABEL_SHARE * height))
    labels = []
    for i, letter in enumerate("AB"):
        tile = Image.new("L", (points, points), 0)
        ImageDraw.Draw(tile).text(
            (points / 2, points / 2), letter, fill=190, font=ImageFont.load_default(points * 0.8), anchor="mm"
        )
        labels.append((i * width // 2 + points // 4, points // 4, np.asarray(tile, np.float32) / 255.0))
    return labels


def _burn_in(picture: np.ndarray, labels: list[tuple[int, int, np.ndarray]]) -> np.ndarray:
    for x, y, opacity in labels:
        corner = picture[y : y + opacity.shape[0], x : x + opacity.shape[1]]
        corner[:] = corner * (1.0 - opacity[..., None])
    return picture


def _encode(
    path: Path,
    frames: Generator[np.ndarray],
    fps: float,
    size: tuple[int, int],
    total: int,
    progress: Progress | None,
) -> None:
    import imageio_ffmpeg

    first = next(frames)  # before ffmpeg starts: drawing may not be possible here
    writer = imageio_ffmpeg.write_frames(
        str(path),
        size,
        fps=fps,  # pyright: ignore[reportArgumentType]  (fractions are fine)
        codec="libx264",
        quality=None,  # pyright: ignore[reportArgumentType]  (None leaves the choice to crf)
        macro_block_size=2,
        pix_fmt_out="yuv420p",
        output_params=["-crf", "20", "-preset", "veryfast", "-movflags", "+faststart"],
    )
    writer.send(None)
    try:
        for i, picture in enumerate(chain([first], frames), start=1):
            writer.send(np.ascontiguousarray(picture))
            if progress is not None:
                progress(i, total)
    finally:
        writer.close()
        frames.close()
