"""Files that leave the house: video of a pair, and one motion as AMASS npz, feature npy or joint npy.

File names carry the pair's id and the letter of the side, never the name of a model: the vote may be still to come.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from core.motion.features import recover_joints
from core.motion.files import save_amass_npz, save_features_npy, save_joints_npy
from core.motion.skeleton import FPS
from core.preference.types import Pair

if TYPE_CHECKING:
    from core.engine import Engine, Progress

LETTERS = {"left": "A", "right": "B"}
KINDS = ("mp4", "npz", "npy", "joints")


def export_pair(engine: Engine, pair: Pair, side: str, kind: str, progress: Progress | None = None) -> Path:
    """Write one export below data_dir/exports and return its path; an existing file is returned as it is.

    kind: "mp4" both bodies side by side (side is ignored); "npz" AMASS layout; "npy" features (F, 263) float32;
    "joints" (F, 22, 3) float32 metres. ValueError for another kind or side; RuntimeError where video can't be drawn.
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is unknown. Choose one of {', '.join(KINDS)}.")
    folder = engine.settings.data_dir / "exports"
    if kind == "mp4":
        return _once(folder / f"arena-{pair.id}.mp4", lambda path: _write_video(engine, pair, path, progress))
    take = pair.take(side)
    stem = f"arena-{pair.id}-{LETTERS[side]}"
    if kind == "npz":
        return _once(folder / f"{stem}.npz", lambda path: _write_amass(engine, pair, side, path))
    features = engine.store.load_motion(take)
    if kind == "npy":
        return _once(folder / f"{stem}.npy", lambda path: save_features_npy(path, features))
    return _once(folder / f"{stem}-joints.npy", lambda path: save_joints_npy(path, recover_joints(features)))


def _once(path: Path, write: Callable[[Path], object]) -> Path:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path)
    return path


def _write_amass(engine: Engine, pair: Pair, side: str, path: Path) -> None:
    pose, trans = engine.poses(pair.take(side))
    save_amass_npz(path, pose, trans, fps=FPS, pelvis_rest=engine.body().joints[0])


def _write_video(engine: Engine, pair: Pair, path: Path, progress: Progress | None) -> None:
    from core.body.skinning import ground_offset, skin
    from core.render.video import render_pair_mp4

    body = engine.body()
    lift = np.array([0.0, ground_offset(body), 0.0], np.float32)  # soles, not foot joints, on the floor
    left, right = (skin(body, *engine.poses(take)) + lift for take in (pair.left, pair.right))

    def report(step: int, total: int) -> None:
        if progress is not None:
            progress(step / total, f"Drawing frame {step} of {total}")

    render_pair_mp4(path, left, right, body.faces, FPS, progress=report)
