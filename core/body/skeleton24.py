"""SMPL's 24 body joints: the 22 of core.motion.skeleton plus one joint at each hand's knuckles."""

from __future__ import annotations

import numpy as np

from core.motion.skeleton import JOINT_NAMES, MIRROR, PARENTS

BODY_JOINT_NAMES: tuple[str, ...] = (*JOINT_NAMES, "left_hand", "right_hand")
BODY_PARENTS = np.append(PARENTS, [20, 21])  # SMPL's kinematic tree; -1 marks the root
BODY_MIRROR = np.append(MIRROR, [23, 22])  # the joint that takes the place when left and right are exchanged
N_BODY_JOINTS = len(BODY_JOINT_NAMES)
