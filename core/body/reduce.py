"""SMPL-H (52 joints) and SMPL-X (55) seen as SMPL (24): fingers follow the hand, jaw and eyes the head.

The first 22 joints are the same in all three. SMPL's joints 22 and 23, the hands, stand at the knuckles: here the mean
of the first joints of index, middle, ring and little finger. Weights of a dropped joint go to the one that carries it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from core.body.skeleton24 import N_BODY_JOINTS
from core.motion.skeleton import JOINT, N_JOINTS

MODELS = ("SMPL", "SMPLH", "SMPLX")
FINGER_JOINTS = 15  # a hand: index, middle, pinky, ring, thumb, three joints each
_KNUCKLES = (0, 3, 6, 9)  # first joints of the four fingers, within a hand


@dataclass(frozen=True)
class _Hands:
    """Where the fingers of a model begin. face: joints that follow the head."""

    left: int
    right: int
    face: tuple[int, ...] = ()


_LAYOUTS = {52: _Hands(22, 37), 55: _Hands(25, 40, (22, 23, 24))}
_SHAPES = {400: 300, 20: 10}  # shapedirs of SMPL-X hold shape first, then expression


def to_24_joints(arrays: dict[str, Any], parents: np.ndarray) -> tuple[dict[str, Any], np.ndarray]:
    """Arrays of a body with 52 or 55 joints -> with 24; others come back as they are, to be checked by the caller.

    arrays: J_regressor (J, V), weights (V, J), shapedirs (V, 3, B). parents: (J,). Returns both, parents (24,).
    """
    hands = _LAYOUTS.get(len(parents))
    if (
        hands is None
        or arrays["J_regressor"].shape[:1] != parents.shape
        or arrays["weights"].shape[1:] != parents.shape
    ):
        return arrays, parents
    carry = np.zeros((N_BODY_JOINTS, len(parents)))  # which joint takes whose weights
    carry[np.arange(N_JOINTS), np.arange(N_JOINTS)] = 1.0
    carry[JOINT["head"], list(hands.face)] = 1.0
    regressor = np.empty((N_BODY_JOINTS, arrays["J_regressor"].shape[1]))
    regressor[:N_JOINTS] = arrays["J_regressor"][:N_JOINTS]
    for joint, first in ((N_JOINTS, hands.left), (N_JOINTS + 1, hands.right)):
        carry[joint, first : first + FINGER_JOINTS] = 1.0
        regressor[joint] = arrays["J_regressor"][[first + k for k in _KNUCKLES]].mean(0)
    shapes = arrays["shapedirs"]
    if len(parents) == 55 and shapes.ndim == 3:
        shapes = shapes[:, :, : _SHAPES.get(shapes.shape[2], shapes.shape[2])]
    reduced = {"J_regressor": regressor, "weights": arrays["weights"] @ carry.T, "shapedirs": shapes}
    wrists = [JOINT["left_wrist"], JOINT["right_wrist"]]
    return arrays | reduced, np.concatenate([parents[:N_JOINTS], wrists]).astype(parents.dtype)
