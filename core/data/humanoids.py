"""Names of humanoid joints: which joint of a BVH file plays the part of which of our 22.

| ours | Bandai-Namco | CMU, Mixamo, LAFAN1 | Xsens, 100STYLE | Character Creator, Unreal, Biped |
| --- | --- | --- | --- | --- |
| pelvis | Hips | Hips | Hips | Hip, pelvis |
| left_hip | UpperLeg_L | LeftUpLeg | LeftHip | L_Thigh, thigh_l |
| left_knee | LowerLeg_L | LeftLeg | LeftKnee | L_Calf, calf_l |
| left_ankle | Foot_L | LeftFoot | LeftAnkle | L_Foot, foot_l |
| left_foot | Toes_L | LeftToeBase, LeftToe | LeftToe | L_ToeBase, ball_l, L_Toe0 |
| left_collar | Shoulder_L | LeftShoulder | LeftCollar | L_Clavicle, clavicle_l |
| left_shoulder | UpperArm_L | LeftArm | LeftShoulder | L_Upperarm, upperarm_l |
| left_elbow | LowerArm_L | LeftForeArm | LeftElbow | L_Forearm, lowerarm_l |
| left_wrist | Hand_L | LeftHand | LeftWrist | L_Hand, hand_l |
| neck, head | Neck, Head | Neck, Head | Neck, Head | NeckTwist01, neck_01, Head |

Name spaces (mixamorig:), prefixes (CC_Base_, Bip01_), case, spaces, dots and underscores don't count. The joints of a
spine may have any number and any name: whatever lies between pelvis and neck.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

PREFIXES = re.compile(r"^(mixamorig\d*|cc_base|bip\d*|character\d*|def|m_avg|f_avg)[_ :]+", re.IGNORECASE)
CENTRE = {
    "pelvis": ("hips", "pelvis", "hip", "mhip"),
    "neck": ("neck", "neck01", "necktwist01", "neck1"),
    "head": ("head",),
}
# Part -> words for it, the first that is there counts. Mixamo's "shoulder" is a collar, Xsens' is the shoulder itself.
LIMBS = {
    "hip": ("upleg", "upperleg", "thigh", "hip"),
    "knee": ("leg", "lowerleg", "calf", "shin", "knee", "lowleg"),
    "ankle": ("foot", "ankle"),
    "foot": ("toebase", "toes", "toe", "ball", "toe0", "foottoe"),
    "shoulder": ("arm", "upperarm", "uparm", "shldr", "shoulder"),
    "elbow": ("forearm", "lowerarm", "elbow", "lowarm"),
    "wrist": ("hand", "wrist"),
}
COLLAR = ("collar", "clavicle", "shoulder")
_SIDES = {"left": "left", "right": "right", "l": "left", "r": "right"}


@dataclass(frozen=True)
class JointMap:
    """Indices of a file's joints. spine: pelvis to neck, both included; collars are None where a skeleton has none."""

    joints: Mapping[str, int]
    spine: tuple[int, ...]

    def collar(self, side: str) -> int | None:
        """Index of a collar bone's joint."""
        return self.joints.get(f"{side}_collar")


def plain_name(name: str) -> tuple[str, str]:
    """(side, part) of a joint's name: "mixamorig:LeftUpLeg" -> ("left", "upleg"), "Hips" -> ("", "hips")."""
    bare = PREFIXES.sub("", name.rsplit(":", 1)[-1]).strip("_ ")
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", bare)
    words = [word.lower() for word in words]
    for end in (0, -1):
        if len(words) > 1 and words[end] in _SIDES:
            rest = words[1:] if end == 0 else words[:-1]
            return _SIDES[words[end]], "".join(rest)
    for side in ("left", "right"):  # "leftupleg" in one word
        if len(words) == 1 and words[0].startswith(side) and words[0] != side:
            return side, words[0][len(side) :]
    return "", "".join(words)


def map_joints(
    names: Sequence[str], parents: np.ndarray, file: str, given: Mapping[str, str] | None = None
) -> JointMap:
    """The joints of a file by our names. given: our name -> the file's name, where the table doesn't know it.

    Raises ValueError naming each part that is missing, the words that were looked for and the file's own joints.
    """
    known: dict[tuple[str, str], int] = {}
    for i, name in enumerate(names):
        known.setdefault(plain_name(name), i)
    wanted = {ours: ("", words) for ours, words in CENTRE.items()}
    for side in ("left", "right"):
        wanted |= {f"{side}_{part}": (side, words) for part, words in LIMBS.items()}
    found = {ours: _first(known, side, words) for ours, (side, words) in wanted.items()}
    found |= {ours: list(names).index(theirs) for ours, theirs in (given or {}).items() if theirs in names}
    if found["neck"] is None and found["head"] is not None:
        found["neck"] = int(parents[found["head"]])
    missing = [f"{ours} ({', '.join(wanted[ours][1])})" for ours, i in found.items() if i is None]
    if missing:
        raise ValueError(
            f"{file} has an unknown skeleton: no joint for {'; '.join(missing)}. Its joints: {', '.join(names)}. "
            "Name them with --joints FILE.json, {our name: their name}, or rename them in the file."
        )
    joints = {ours: i for ours, i in found.items() if i is not None}
    for side in ("left", "right"):
        collar = _first(known, side, COLLAR)
        if collar is not None and collar != joints[f"{side}_shoulder"]:
            joints[f"{side}_collar"] = collar
    return JointMap(joints, _spine(joints["pelvis"], joints["neck"], parents, file))


def _first(known: Mapping[tuple[str, str], int], side: str, words: Sequence[str]) -> int | None:
    return next((known[side, word] for word in words if (side, word) in known), None)


def _spine(pelvis: int, neck: int, parents: np.ndarray, file: str) -> tuple[int, ...]:
    """Joints from pelvis to neck; the chain may leave from an ancestor of the pelvis joint (Character Creator)."""
    ancestors = {pelvis}
    while parents[min(ancestors)] >= 0:
        ancestors.add(int(parents[min(ancestors)]))
    chain = [neck]
    while parents[chain[-1]] >= 0 and int(parents[chain[-1]]) not in ancestors:
        chain.append(int(parents[chain[-1]]))
    if len(chain) < 2:
        raise ValueError(f"{file} has an unknown skeleton: nothing lies between pelvis and neck. Use another file.")
    return (pelvis, *reversed(chain))
