"""Thumbnails show where the limbs are."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np

from core.body.smpl_files import load_body
from core.motion.skeleton import JOINT, N_JOINTS
from core.render.thumbnail import pose_strip_svg


def standing(frames: int) -> np.ndarray:
    return np.tile(load_body().joints[:N_JOINTS] + [0.0, 1.0, 0.0], (frames, 1, 1))


def heights(svg: str) -> list[int]:
    """The highest point of each figure's limbs, centimetres above the floor."""
    figures = ElementTree.fromstring(svg).findall("g/path")
    return [max(-int(y) for y in re.findall(r",(-?\d+)", figure.attrib["d"])) for figure in figures]


def test_a_raised_hand_is_seen_when_it_is_raised() -> None:
    """Prevents thumbnails that are all alike, upside down, or in another order."""
    joints = standing(41)
    joints[20:, JOINT["left_wrist"], 1] = 2.0
    assert heights(pose_strip_svg(joints))[:2] != [200, 200] and heights(pose_strip_svg(joints))[2:] == [200] * 3


def test_a_walk_stays_in_its_frame_and_the_text_is_small() -> None:
    """Prevents figures that walk out of the picture, and a gallery of megabytes."""
    walk = standing(60) + np.linspace(0, 9, 60)[:, None, None] * np.array([0.3, 0.0, 1.0])
    assert pose_strip_svg(walk) == pose_strip_svg(standing(60)) and len(pose_strip_svg(walk)) < 3000
