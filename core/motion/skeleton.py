"""The 22-joint SMPL skeleton that every motion in this project uses.

Conventions: metres, seconds, Y up, right-handed, a body that faces +Z has its left side on +X.
Joint order is that of SMPL's first 22 joints, as in HumanML3D (Guo et al. 2022).
"""

from __future__ import annotations

import numpy as np

FPS = 20  # frames per second, HumanML3D
MIN_FRAMES = 40  # 2.0 s
MAX_FRAMES = 196  # 9.8 s
N_FEATURES = 263  # HumanML3D feature vector, see core.motion.features

JOINT_NAMES: tuple[str, ...] = (
    "pelvis",
    "left_hip",
    "right_hip",
    "spine1",
    "left_knee",
    "right_knee",
    "spine2",
    "left_ankle",
    "right_ankle",
    "spine3",
    "left_foot",
    "right_foot",
    "neck",
    "left_collar",
    "right_collar",
    "head",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
)
N_JOINTS = len(JOINT_NAMES)
JOINT: dict[str, int] = {name: i for i, name in enumerate(JOINT_NAMES)}

# SMPL's kinematic tree; -1 marks the root.
PARENTS = np.array([-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19])

# Chains of the HumanML3D feature extraction (right leg first, as published).
KINEMATIC_CHAINS: tuple[tuple[int, ...], ...] = (
    (0, 2, 5, 8, 11),
    (0, 1, 4, 7, 10),
    (0, 3, 6, 9, 12, 15),
    (9, 14, 17, 19, 21),
    (9, 13, 16, 18, 20),
)

LEFT_FOOT = (JOINT["left_ankle"], JOINT["left_foot"])
RIGHT_FOOT = (JOINT["right_ankle"], JOINT["right_foot"])


def _swap_side(name: str) -> str:
    if name.startswith("left_"):
        return "right_" + name[5:]
    if name.startswith("right_"):
        return "left_" + name[6:]
    return name


# MIRROR[i] is the joint that takes i's place when left and right are exchanged.
MIRROR = np.array([JOINT[_swap_side(name)] for name in JOINT_NAMES])
