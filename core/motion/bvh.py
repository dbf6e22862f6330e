"""BVH files: reader, writer and forward kinematics; vectorised over frames.

BVH carries no unit and no up axis: what the reader returns is in the file's own units and axes. Angles are degrees in
the file and rotation matrices here. Rotation channels multiply in the order in which they are written,
R = R_first @ R_second @ R_third; a position channel replaces the joint's OFFSET on its axis. End Sites are read over.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.motion.files import atomic_write
from core.motion.kinematics import forward_kinematics

_CHANNELS = {f"{axis}{kind}": (kind, "XYZ".index(axis)) for axis in "XYZ" for kind in ("position", "rotation")}


@dataclass(frozen=True, eq=False)
class Bvh:
    """A clip as in the file. F frames, J joints in file order (depth first, every parent before its children)."""

    names: tuple[str, ...]
    parents: np.ndarray  # (J,), -1 for the root
    offsets: np.ndarray  # (J, 3), file units
    positions: np.ndarray  # (F, J, 3) of each joint in its parent's frame, file units
    rotations: np.ndarray  # (F, J, 3, 3) R_parent_joint
    frame_time: float  # seconds

    @property
    def fps(self) -> float:
        """Frames per second."""
        return 1.0 / self.frame_time

    def forward(self) -> tuple[np.ndarray, np.ndarray]:
        """Global positions (F, J, 3) in file units and global rotations R_world_joint (F, J, 3, 3)."""
        return forward_kinematics(self.rotations, self.positions, self.parents)


@dataclass
class _Hierarchy:
    names: list[str]
    parents: list[int]
    offsets: list[list[float]]
    channels: list[list[str]]


def read_bvh(path: str | Path) -> Bvh:
    """Read a BVH file: any channel order, 3 or 6 channels a joint, End Sites, LF or CRLF.

    Raises FileNotFoundError, and ValueError for what is not a BVH, a frame with the wrong number of values (a cut
    file), a value that is not a finite number, or a clip without frames.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist. Give the path of a .bvh file.")
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    if text.split(None, 1)[:1] != ["HIERARCHY"]:
        raise ValueError(f"{path.name} is not a BVH file: it does not start with HIERARCHY. Choose a .bvh file.")
    section = re.search(r"^\s*MOTION\s*$", text, re.MULTILINE)
    if section is None:
        raise ValueError(f"{path.name} has no MOTION section. The file is cut, export it again.")
    tree = _parse_hierarchy(text[: section.start()].split(), path.name)
    n_channels = sum(len(c) for c in tree.channels)
    n_frames, frame_time, rows = _parse_motion_header(text[section.end() :], path.name)
    values = _parse_values(rows, n_frames, n_channels, path.name, line=text.count("\n", 0, len(text) - len(rows)) + 1)
    positions, rotations = _local_transforms(values, tree)
    return Bvh(tuple(tree.names), np.array(tree.parents), np.array(tree.offsets), positions, rotations, frame_time)


def _parse_hierarchy(tokens: list[str], file: str) -> _Hierarchy:
    """Walk the tokens of the HIERARCHY section once, with a stack of open braces."""
    tree = _Hierarchy([], [], [], [])
    stack: list[int] = []  # joint of each open brace, -1 for an End Site
    opened, i = -1, 1
    try:
        while i < len(tokens):
            word = tokens[i]
            if word in ("ROOT", "JOINT"):
                if (word == "ROOT") != (not stack):
                    raise ValueError("a ROOT must be outermost, only one ROOT is supported")
                tree.names.append(tokens[i + 1])
                tree.parents.append(stack[-1] if stack else -1)
                tree.offsets.append([0.0, 0.0, 0.0])
                tree.channels.append([])
                opened, i = len(tree.names) - 1, i + 2
            elif word == "End":
                opened, i = -1, i + 2
            elif word == "{":
                stack.append(opened)
                i += 1
            elif word == "}":
                stack.pop()
                i += 1
            elif word == "OFFSET":
                offset = [float(v) for v in tokens[i + 1 : i + 4]]
                if stack[-1] >= 0:
                    tree.offsets[stack[-1]] = offset
                i += 4
            elif word == "CHANNELS":
                count = int(tokens[i + 1])
                channels = tokens[i + 2 : i + 2 + count]
                if unknown := [c for c in channels if c not in _CHANNELS]:
                    raise ValueError(f"unknown channel {unknown[0]!r}")
                tree.channels[stack[-1]] = channels
                i += 2 + count
            else:
                raise ValueError(f"unexpected {word!r}")
        if stack or not tree.names or tree.parents.count(-1) != 1:
            raise ValueError("braces don't match, or there isn't exactly one ROOT")
    except (ValueError, IndexError) as error:
        where = f" after joint {tree.names[-1]!r}" if tree.names else ""
        raise ValueError(f"{file}: HIERARCHY is broken{where} ({error}). Export the file again.") from error
    return tree


def _parse_motion_header(motion: str, file: str) -> tuple[int, float, str]:
    """Frame count, frame time in seconds and the text of the rows."""
    try:
        _, frames, rest = motion.lstrip().split(":", 2)
        n_frames = int(frames.split()[0])
        pieces = rest.split(None, 1)
        frame_time, rows = float(pieces[0]), pieces[1] if len(pieces) > 1 else ""
    except (ValueError, IndexError) as error:
        raise ValueError(f"{file}: MOTION needs 'Frames: N' and 'Frame Time: seconds'. Export it again.") from error
    if n_frames < 1:
        raise ValueError(f"{file} has Frames: {n_frames}, at least 1 is needed. Choose a clip with motion.")
    if not (np.isfinite(frame_time) and frame_time > 0):
        raise ValueError(f"{file} has Frame Time: {frame_time}, allowed is a positive number of seconds.")
    return n_frames, frame_time, rows


def _parse_values(rows: str, n_frames: int, n_channels: int, file: str, line: int) -> np.ndarray:
    """(F, C) numbers; `line` is the number of the first row's line, for the error messages."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)
            values = np.fromstring(rows, dtype=np.float64, sep=" ")
    except (ValueError, DeprecationWarning):
        values = np.empty(0)
    if values.size != n_frames * n_channels:
        raise ValueError(_wrong_rows(rows, n_frames, n_channels, file, line))
    values = values.reshape(n_frames, n_channels)
    if not np.isfinite(values).all():
        frame = int(np.flatnonzero(~np.isfinite(values).all(1))[0])
        raise ValueError(f"{file}: frame {frame + 1} holds a value that is not finite. Repair or export it again.")
    return values


def _wrong_rows(rows: str, n_frames: int, n_channels: int, file: str, line: int) -> str:
    """The sentence that names the first wrong frame."""
    frame = 0
    for number, row in enumerate(rows.splitlines(), start=line):
        words = row.split()
        if not words:
            continue
        frame += 1
        for word in words:
            try:
                float(word)
            except ValueError:
                return f"{file}: {word!r} in frame {frame} (line {number}) is not a number. Export the file again."
        if len(words) != n_channels:
            return (
                f"{file}: frame {frame} (line {number}) has {len(words)} values, {n_channels} expected from the "
                f"channels. The file is cut or damaged, export it again."
            )
    return f"{file} holds {frame} frames, {n_frames} expected from 'Frames:'. The file is cut, export it again."


def _local_transforms(values: np.ndarray, tree: _Hierarchy) -> tuple[np.ndarray, np.ndarray]:
    """Channel values (F, C) -> local positions (F, J, 3) and rotations (F, J, 3, 3)."""
    n_frames, n_joints = len(values), len(tree.names)
    positions = np.repeat(np.array(tree.offsets)[None], n_frames, 0)
    rotations = np.broadcast_to(np.eye(3), (n_frames, n_joints, 3, 3)).copy()
    groups: dict[tuple[int, ...], tuple[list[int], list[list[int]]]] = {}  # axis order -> joints, their columns
    column = 0
    for joint, channels in enumerate(tree.channels):
        axes, columns = [], []
        for channel in channels:
            kind, axis = _CHANNELS[channel]
            if kind == "position":
                positions[:, joint, axis] = values[:, column]
            else:
                axes.append(axis)
                columns.append(column)
            column += 1
        if axes:
            joints, joint_columns = groups.setdefault(tuple(axes), ([], []))
            joints.append(joint)
            joint_columns.append(columns)
    for axes, (joints, joint_columns) in groups.items():
        rotations[:, joints] = _euler_to_matrix(np.radians(values[:, joint_columns]), axes)
    return positions, rotations


def _euler_to_matrix(angles: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    """Angles (..., K) in radians about axes (K,) of 0, 1, 2 -> (..., 3, 3), the product in the given order."""
    cos, sin = np.cos(angles), np.sin(angles)
    R = np.zeros((*angles.shape[:-1], 3, 3))
    R[..., 0, 0] = R[..., 1, 1] = R[..., 2, 2] = 1.0
    for k, axis in enumerate(axes):
        a, b = (axis + 1) % 3, (axis + 2) % 3  # column a turns towards column b
        col_a, col_b = R[..., a].copy(), R[..., b].copy()
        c, s = cos[..., k, None], sin[..., k, None]
        R[..., a] = c * col_a + s * col_b
        R[..., b] = c * col_b - s * col_a
    return R


def write_bvh(
    path: str | Path,
    names: Sequence[str],
    parents: Sequence[int] | np.ndarray,
    offsets: np.ndarray,
    root_positions: np.ndarray,
    rotations: np.ndarray,
    fps: float = 20.0,
    unit_scale: float = 100.0,
) -> None:
    """Write a BVH with root channels XYZ position + ZXY rotation and ZXY rotation elsewhere.

    offsets (J, 3): rest offsets from the parent, root_positions (F, 3): both in metres. rotations (F, J, 3, 3):
    R_parent_joint. unit_scale: file units per metre (100 = centimetres, the custom). Joint 0 is the root; its rest
    offset is written as zero because readers disagree on whether to add it. Joints are written depth first, as BVH
    demands.
    Raises ValueError for shapes that don't fit or values that are not finite. Atomic.
    """
    offsets, root_positions, rotations = (np.asarray(a, np.float64) for a in (offsets, root_positions, rotations))
    n_frames, n_joints = len(rotations), len(names)
    expected = ((n_joints, 3), (n_frames, 3), (n_frames, n_joints, 3, 3))
    shapes = (offsets.shape, root_positions.shape, rotations.shape)
    if shapes != expected or len(parents) != n_joints or n_frames < 1:
        raise ValueError(f"offsets, root_positions, rotations have shapes {shapes}, needed are {expected}.")
    if not all(np.isfinite(a).all() for a in (offsets, root_positions, rotations)):
        raise ValueError("the motion holds values that are not finite. Nothing was written, generate it again.")
    header, order = _hierarchy_text(names, np.asarray(parents), offsets * unit_scale)
    angles = np.degrees(_matrix_to_zxy(rotations[:, order]))  # (F, J, 3)
    rows = np.concatenate([root_positions * unit_scale, angles.reshape(n_frames, -1)], 1)
    row_format = " ".join(["%.6f"] * rows.shape[1])
    lines = [*header, "MOTION", f"Frames: {n_frames}", f"Frame Time: {1.0 / fps:.8f}"]
    text = "\n".join([*lines, *(row_format % tuple(row) for row in rows)]) + "\n"
    atomic_write(path, lambda file: file.write(text.encode()))


def _hierarchy_text(names: Sequence[str], parents: np.ndarray, offsets: np.ndarray) -> tuple[list[str], list[int]]:
    """Lines of the HIERARCHY section and the joints in the order in which they were written."""
    lines, order, stack = ["HIERARCHY"], [], [(0, 0)]
    depth = 0
    while stack:
        joint, level = stack.pop()
        while depth > level:
            depth -= 1
            lines.append("  " * depth + "}")
        children = np.flatnonzero(parents == joint)
        offset = offsets[joint] if joint else np.zeros(3)
        lines.append("  " * level + f"{'JOINT' if joint else 'ROOT'} {names[joint]}")
        lines.append("  " * level + "{")
        lines.append("  " * (level + 1) + "OFFSET {:.6f} {:.6f} {:.6f}".format(*offset))
        position = "" if joint else "Xposition Yposition Zposition "
        lines.append("  " * (level + 1) + f"CHANNELS {3 if joint else 6} {position}Zrotation Xrotation Yrotation")
        if not len(children):  # half a bone longer, so that a viewer can draw the last bone
            end = "OFFSET {:.6f} {:.6f} {:.6f}".format(*(0.5 * offset))
            lines += ["  " * (level + 1) + word for word in ("End Site", "{", f"  {end}", "}")]
        order.append(joint)
        stack += [(int(child), level + 1) for child in children[::-1]]
        depth = level + 1
    return lines + ["  " * level + "}" for level in range(depth - 1, -1, -1)], order


def _matrix_to_zxy(R: np.ndarray) -> np.ndarray:
    """(F, J, 3, 3) -> (F, J, 3) angles z, x, y in radians with R = Rz @ Rx @ Ry, continuous over frames."""
    x = np.arcsin(np.clip(R[..., 2, 1], -1.0, 1.0))
    locked = np.abs(R[..., 2, 1]) > 1.0 - 1e-10
    z = np.where(locked, np.arctan2(R[..., 1, 0], R[..., 0, 0]), np.arctan2(-R[..., 0, 1], R[..., 1, 1]))
    y = np.where(locked, 0.0, np.arctan2(-R[..., 2, 0], R[..., 2, 2]))
    return np.stack([np.unwrap(z, axis=0), x, np.unwrap(y, axis=0)], -1)
