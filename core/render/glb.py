"""One motion as GLB, binary glTF 2.0: the body skinned to its 24 joints, and one animation.

Chapters in brackets are those of the glTF 2.0 specification (Khronos, 2.0.1). Metres, Y up, the body facing +Z, as
glTF wants it [3.4]. Only what a motion needs is written: no textures, cameras, morph targets or compression.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.body.skeleton24 import BODY_JOINT_NAMES, N_BODY_JOINTS
from core.body.skinning import ground_offset
from core.motion.files import atomic_write
from core.motion.rotations import matrix_to_quaternion
from core.motion.skeleton import FPS
from core.render.player_pack import N_INFLUENCES
from core.render.video import normal_operator, vertex_normals

if TYPE_CHECKING:
    from core.body.smpl_files import Body

_COMPONENT_TYPES = {"uint8": 5121, "uint16": 5123, "uint32": 5125, "float32": 5126}  # [3.6.2.2]
_WIDTHS = {1: "SCALAR", 3: "VEC3", 4: "VEC4", 16: "MAT4"}
_ARRAY_BUFFER, _ELEMENT_ARRAY_BUFFER = 34962, 34963  # what a view is for [5.11]
_JSON_CHUNK, _BINARY_CHUNK = b"JSON", b"BIN\0"  # [4.4.3]
_SKIN_COLOUR = (0.62, 0.66, 0.72, 1.0)  # linear RGBA, a grey that reads on light and dark

TERMS = (  # asset.copyright [5.6]: what a file that leaves the page must say for itself
    "Body: {body.name}, {body.licence}. Motion: under the terms of the model that made it; those that come with "
    "EasyTune Arena learnt from data (c) Bandai Namco Research Inc., CC BY-NC 4.0: non-commercial, with attribution."
)


class _Buffer:
    """The binary chunk as it grows, with the accessors and views that name its parts."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.accessors: list[dict[str, Any]] = []
        self.views: list[dict[str, Any]] = []

    def add(self, array: np.ndarray, target: int | None = None, bounds: bool = False) -> int:
        """Append (N,) or (N, K), little-endian, at a multiple of four bytes; returns the accessor's index."""
        array = np.ascontiguousarray(array)
        self.data += bytes(-len(self.data) % 4)
        view = {"buffer": 0, "byteOffset": len(self.data), "byteLength": array.nbytes}
        self.views.append(view if target is None else {**view, "target": target})
        self.data += array.astype(array.dtype.newbyteorder("<")).tobytes()
        rows = array.reshape(len(array), -1)
        accessor = {
            "bufferView": len(self.views) - 1,
            "componentType": _COMPONENT_TYPES[array.dtype.name],
            "count": len(rows),
            "type": _WIDTHS[rows.shape[1]],
        }
        if bounds:
            accessor |= {"min": rows.min(0).tolist(), "max": rows.max(0).tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1


def write_glb(
    path: str | Path, body: Body, pose: np.ndarray, trans: np.ndarray, fps: float = FPS, name: str = "motion"
) -> None:
    """Write a skinned, animated body that any glTF viewer plays. Atomic.

    pose (F, 24, 3, 3) local rotations, trans (F, 3) metres, as core.body.skinning takes them; the body is lifted so
    that its soles, not its foot joints, stand on y = 0. name: of the animation.
    Raises ValueError for shapes that don't fit, values that are not finite, or a rate that is not positive.
    """
    data = glb_bytes(body, pose, trans, fps, name)
    atomic_write(path, lambda file: file.write(data))


def glb_bytes(body: Body, pose: np.ndarray, trans: np.ndarray, fps: float = FPS, name: str = "motion") -> bytes:
    """The file of write_glb as bytes."""
    pose, trans = _checked(pose, trans, fps)
    buffer = _Buffer()
    document = {
        "asset": {"version": "2.0", "generator": "EasyTune Arena", "copyright": TERMS.format(body=body)},
        "scene": 0,
        "scenes": [{"nodes": [0, N_BODY_JOINTS]}],
        "nodes": [*_joint_nodes(body, pose, trans), {"name": "body", "mesh": 0, "skin": 0}],
        "meshes": [_mesh(body, buffer)],
        "materials": [
            {"name": "body", "pbrMetallicRoughness": {"baseColorFactor": _SKIN_COLOUR, "metallicFactor": 0.0}}
        ],
        "skins": [_skin(body, buffer)],
        "animations": [{"name": name, **_animation(body, pose, trans, fps, buffer)}],
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
        "buffers": [{"byteLength": len(buffer.data)}],
    }
    return _container(document, bytes(buffer.data))


def _checked(pose: np.ndarray, trans: np.ndarray, fps: float) -> tuple[np.ndarray, np.ndarray]:
    pose, trans = np.asarray(pose, np.float64), np.asarray(trans, np.float64)
    if pose.shape != (len(trans), N_BODY_JOINTS, 3, 3) or trans.shape != (len(trans), 3) or not len(trans):
        raise ValueError(
            f"pose {pose.shape} and trans {trans.shape} don't fit: needed are (F, {N_BODY_JOINTS}, 3, 3) and (F, 3)."
        )
    if not (np.isfinite(pose).all() and np.isfinite(trans).all()):
        raise ValueError("the motion holds values that are not finite. Nothing was written, generate it again.")
    if not (np.isfinite(fps) and fps > 0):
        raise ValueError(f"fps={fps} is not allowed. Give a positive number of frames per second.")
    return pose, trans


def _pelvis(body: Body, trans: np.ndarray) -> np.ndarray:
    """Where the lifted pelvis stands, (F, 3) metres."""
    return body.joints[0] + trans + np.array([0.0, ground_offset(body), 0.0])


def _xyzw(pose: np.ndarray) -> np.ndarray:
    """Rotation matrices (..., 3, 3) -> unit quaternions (..., 4) float32, scalar last as glTF wants it."""
    return np.roll(matrix_to_quaternion(pose), -1, axis=-1).astype(np.float32)


def _joint_nodes(body: Body, pose: np.ndarray, trans: np.ndarray) -> list[dict[str, Any]]:
    """Nodes 0..23: the joints, standing as in the first frame for viewers that play nothing."""
    offsets = body.joints - body.joints[np.maximum(body.parents, 0)]
    offsets[0] = _pelvis(body, trans[:1])[0]
    nodes: list[dict[str, Any]] = []
    for joint, rotation in enumerate(_xyzw(pose[0])):
        node = {"name": BODY_JOINT_NAMES[joint], "translation": offsets[joint].tolist(), "rotation": rotation.tolist()}
        children = np.flatnonzero(body.parents == joint).tolist()
        nodes.append({**node, "children": children} if children else node)
    return nodes


def _mesh(body: Body, buffer: _Buffer) -> dict[str, Any]:
    joints, weights = _influences(body.weights)
    normals = vertex_normals(body.vertices, body.faces, normal_operator(len(body.vertices), body.faces))
    normals[~normals.any(1)] = (0.0, 1.0, 0.0)  # a vertex without a face; normals must have unit length
    index_type = np.uint16 if len(body.vertices) < 65535 else np.uint32  # the largest index is reserved [3.7.2.1]
    attributes = {
        "POSITION": buffer.add(body.vertices.astype(np.float32), _ARRAY_BUFFER, bounds=True),
        "NORMAL": buffer.add(normals.astype(np.float32), _ARRAY_BUFFER),
        "JOINTS_0": buffer.add(joints, _ARRAY_BUFFER),
        "WEIGHTS_0": buffer.add(weights, _ARRAY_BUFFER),
    }
    indices = buffer.add(body.faces.astype(index_type).ravel(), _ELEMENT_ARRAY_BUFFER)
    return {"name": body.name, "primitives": [{"attributes": attributes, "indices": indices, "material": 0}]}


def _influences(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Skin weights (V, 24) -> the four largest: joints (V, 4) uint8 and weights (V, 4) float32, rows that sum to 1.

    A weight of zero names joint 0, as the specification recommends [3.7.3.3].
    """
    joints = np.argsort(-weights, axis=1, kind="stable")[:, :N_INFLUENCES]
    kept = np.take_along_axis(weights, joints, 1).astype(np.float64)
    kept /= kept.sum(1, keepdims=True)
    return np.where(kept > 0, joints, 0).astype(np.uint8), kept.astype(np.float32)


def _skin(body: Body, buffer: _Buffer) -> dict[str, Any]:
    inverse_bind = np.tile(np.eye(4, dtype=np.float32), (N_BODY_JOINTS, 1, 1))  # rest joints carry no rotation
    inverse_bind[:, 3, :3] = -body.joints  # column-major: the translation fills the last four numbers
    matrices = buffer.add(inverse_bind.reshape(N_BODY_JOINTS, 16))
    return {"inverseBindMatrices": matrices, "skeleton": 0, "joints": list(range(N_BODY_JOINTS))}


def _animation(body: Body, pose: np.ndarray, trans: np.ndarray, fps: float, buffer: _Buffer) -> dict[str, Any]:
    """One rotation channel a joint, and the pelvis' place."""
    times = buffer.add((np.arange(len(pose)) / fps).astype(np.float32), bounds=True)
    outputs = [(0, "translation", _pelvis(body, trans).astype(np.float32))]
    outputs += [(joint, "rotation", rotations) for joint, rotations in enumerate(np.moveaxis(_xyzw(pose), 1, 0))]
    samplers = [{"input": times, "output": buffer.add(values)} for _, _, values in outputs]
    channels = [{"sampler": i, "target": {"node": node, "path": path}} for i, (node, path, _) in enumerate(outputs)]
    return {"samplers": samplers, "channels": channels}


def _container(document: dict[str, Any], binary: bytes) -> bytes:
    """Header and the two chunks, each padded to four bytes [4.4]."""
    text = json.dumps(document, separators=(",", ":")).encode()
    chunks = b""
    for kind, content, padding in ((_JSON_CHUNK, text, b" "), (_BINARY_CHUNK, binary, b"\0")):
        content += padding * (-len(content) % 4)
        chunks += struct.pack("<I", len(content)) + kind + content
    return b"glTF" + struct.pack("<II", 2, 12 + len(chunks)) + chunks
