"""Bytes for the browser player: one static file for the rest body, one small JSON value for a pair of motions.

The body file is fetched once and cached by the browser (its name is the hash of its content); a pair then costs about
0.54 kB a frame and is posed, interpolated and skinned in the browser (app/player_math.js, app/player_gl.js).
A pair holds labels only, never the name of a model: the page can show it to a voter as it is.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.body.skinning import ground_offset
from core.motion.files import atomic_write
from core.motion.rotations import matrix_to_quaternion
from core.motion.skeleton import FPS, JOINT

if TYPE_CHECKING:
    from core.body.smpl_files import Body

MAGIC = b"EABD"  # first four bytes of a body file
VERSION = 1  # of both formats; app/player_math.js refuses any other
N_INFLUENCES = 4  # joints that move one vertex, as glTF
BODY_JOINTS = 24  # the 22 of the skeleton and both hands, as SMPL
QUATERNION_SCALE = 32767.0  # int16 per unit: 0.002 degrees


def body_bytes(body: Body, posed_on: Body | None = None) -> bytes:
    """Serialise a rest body: magic, header length (uint32), JSON header, then the arrays, little-endian.

    Arrays in order: positions float32 (V, 3), joint indices uint8 (V, 4), weights uint8 (V, 4) that sum to 255,
    triangles uint16 (T, 3), or uint32 above 65,536 vertices. The header's ground_offset is what the browser lifts the
    body by, so that the soles and not the foot joints stand on the floor.

    posed_on: the body that motions were made for, where it is another one: the header's path then tells the browser
    to scale the pelvis' way by leg length, so that longer legs take longer steps and feet neither slide nor sink.
    """
    vertices = np.ascontiguousarray(body.vertices, "<f4")
    indices, weights = top_influences(np.asarray(body.weights))
    index_type = "<u2" if len(vertices) <= 65536 else "<u4"
    header = {
        "version": VERSION,
        "vertices": len(vertices),
        "faces": len(body.faces),
        "index_bytes": np.dtype(index_type).itemsize,
        "parents": [int(parent) for parent in body.parents],
        "joints": np.asarray(body.joints, np.float64).round(6).tolist(),
        "ground_offset": round(ground_offset(body), 6),
    }
    if posed_on is not None:
        scale = _leg_length(body) / _leg_length(posed_on)
        header["path"] = {"scale": round(scale, 6), "rest": np.asarray(posed_on.joints[0], float).round(6).tolist()}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)  # arrays start at a multiple of four bytes
    triangles = np.ascontiguousarray(body.faces, index_type)
    arrays = [vertices.tobytes(), indices.tobytes(), weights.tobytes(), triangles.tobytes()]
    return b"".join([MAGIC, struct.pack("<I", len(text)), text, *arrays])


def _leg_length(body: Body) -> float:
    chain = np.asarray(body.joints)[[JOINT["left_hip"], JOINT["left_knee"], JOINT["left_ankle"]]]
    return float(np.linalg.norm(np.diff(chain, axis=0), axis=-1).sum())


def top_influences(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keep the four largest skin weights of each vertex.

    weights: (V, J), rows that sum to about 1. Returns indices (V, 4) uint8 and weights (V, 4) uint8 whose rows sum to
    255 exactly, so that no vertex shrinks towards the origin through rounding.
    """
    indices = np.argsort(-weights, axis=1, kind="stable")[:, :N_INFLUENCES]  # (V, 4)
    kept = np.take_along_axis(weights, indices, 1)
    scaled = kept / kept.sum(1, keepdims=True) * 255.0
    rounded = np.floor(scaled)
    missing = (255 - rounded.sum(1)).astype(int)  # 0..3, given to the largest remainders
    rank = np.argsort(np.argsort(rounded - scaled, axis=1, kind="stable"), axis=1)
    rounded += rank < missing[:, None]
    return indices.astype(np.uint8), rounded.astype(np.uint8)


def pack_body(body: Body, folder: Path, posed_on: Body | None = None) -> Path:
    """Write the body file once and return its path; the name is the hash of the content.

    Side effect: creates `folder` and the file where they are missing; an existing file is left alone.
    """
    data = body_bytes(body, posed_on)
    path = Path(folder) / f"body-{hashlib.sha256(data).hexdigest()[:16]}.bin"
    if not path.is_file() or path.stat().st_size != len(data):
        atomic_write(path, lambda file: file.write(data))
    return path


def pack_pair(
    pose_left: np.ndarray,
    trans_left: np.ndarray,
    pose_right: np.ndarray | None = None,
    trans_right: np.ndarray | None = None,
    fps: float = FPS,
    labels: Sequence[str] = ("A", "B"),
) -> dict[str, Any]:
    """The player's value for two motions (or one, where the right is None).

    pose: (F, 24, 3, 3) local rotation matrices; trans: (F, 3) translation of the body in metres,
    as in core.body.skinning; the two may differ in length.
    Returns a JSON-able dict with a fresh nonce, so that showing the same motions again starts them again.
    Raises ValueError for a wrong shape or a number that is not finite.
    """
    if not 1.0 <= fps <= 240.0:
        raise ValueError(f"fps={fps} is outside 1-240. Motions of this project run at {FPS}.")
    motions = [_pack_motion(pose_left, trans_left, "left")]
    if pose_right is not None and trans_right is not None:
        motions.append(_pack_motion(pose_right, trans_right, "right"))
    if len(labels) < len(motions):
        raise ValueError(f"labels={tuple(labels)} has {len(labels)} entries for {len(motions)} motions. Give one each.")
    return {
        "version": VERSION,
        "nonce": secrets.token_hex(8),
        "fps": float(fps),
        "labels": [str(label) for label in labels[: len(motions)]],
        "motions": motions,
    }


def side_by_side(left: dict[str, Any], right: dict[str, Any], labels: Sequence[str] = ("A", "B")) -> dict[str, Any]:
    """One value of two values of one motion each, with a fresh nonce."""
    return relabel({**left, "nonce": secrets.token_hex(8), "motions": left["motions"] + right["motions"]}, labels)


def relabel(pack: dict[str, Any], labels: Sequence[str]) -> dict[str, Any]:
    """The same value under other labels: the player renames the bodies and does not start again (same nonce)."""
    return {**pack, "labels": [str(label) for label in labels[: len(pack["motions"])]]}


def quantize_rotations(pose: np.ndarray) -> np.ndarray:
    """(F, J, 3, 3) -> (F, J, 4) int16 unit quaternions x 32767, scalar first.

    Neighbouring frames lie in the same half of the 4-sphere, so the browser may interpolate them as they are.
    """
    quaternions = matrix_to_quaternion(pose)  # (F, J, 4)
    turns_over = np.sum(quaternions[1:] * quaternions[:-1], -1) < 0  # (F-1, J)
    quaternions[1:] *= np.cumprod(np.where(turns_over, -1.0, 1.0), 0)[..., None]
    return np.rint(quaternions * QUATERNION_SCALE).astype("<i2")


def _pack_motion(pose: np.ndarray, trans: np.ndarray, side: str) -> dict[str, Any]:
    pose, trans = np.asarray(pose, np.float64), np.asarray(trans, np.float64)
    if pose.ndim != 4 or pose.shape[1:] != (BODY_JOINTS, 3, 3) or not len(pose):
        raise ValueError(f"pose_{side} has shape {pose.shape}; expected (F, {BODY_JOINTS}, 3, 3) rotation matrices.")
    if trans.shape != (len(pose), 3):
        raise ValueError(f"trans_{side} has shape {trans.shape}; expected ({len(pose)}, 3), one position a frame.")
    if not (np.isfinite(pose).all() and np.isfinite(trans).all()):
        raise ValueError(f"The {side} motion holds numbers that are not finite. Generate it again.")
    return {
        "frames": len(pose),
        "rotations": _base64(quantize_rotations(pose)),
        "translations": _base64(trans.astype("<f4")),
    }


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode()
