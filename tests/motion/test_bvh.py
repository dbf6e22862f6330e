"""BVH files: what is written can be read by others, what is read is what the file means, damage is named."""

from __future__ import annotations

import itertools

import bvhio
import numpy as np
import pytest

from core.motion.bvh import read_bvh, write_bvh
from core.motion.kinematics import forward_kinematics
from core.motion.rotations import rotvec_to_matrix
from core.motion.skeleton import JOINT_NAMES, PARENTS

TINY = """HIERARCHY
ROOT hips
{
  OFFSET 1 2 3
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT arm
  {
    OFFSET 0 10 0
    CHANNELS 3 Yrotation Zrotation Xrotation
    JOINT hand
    {
      OFFSET 0 5 0
      CHANNELS 3 Zrotation Xrotation Yrotation
      End Site
      {
        OFFSET 0 1 0
      }
    }
  }
  JOINT leg
  {
    OFFSET 0 -10 0
    CHANNELS 6 Xposition Yposition Zposition Xrotation Yrotation Zrotation
    End Site
    {
      OFFSET 0 -5 0
    }
  }
}
MOTION
Frames: 2
Frame Time: 0.05
0 0 0 0 0 0  0 0 0  0 0 0  0 -10 0 0 0 0
4 5 6 90 0 0  0 90 0  0 0 0  1 -12 0 90 0 0
"""


@pytest.fixture
def write(tmp_path):
    def to_file(text: str) -> str:
        path = tmp_path / "clip.bvh"
        path.write_bytes(text.encode())
        return str(path)

    return to_file


@pytest.fixture(scope="module")
def clip():
    rng = np.random.default_rng(0)
    offsets = rng.normal(0, 0.2, (22, 3))
    rotations = rotvec_to_matrix(rng.normal(0, 1.5, (12, 22, 3)))
    rotations[3, 4] = rotvec_to_matrix(np.array([np.pi / 2, 0, 0]))  # gimbal lock of ZXY
    root = rng.normal(0, 1, (12, 3))
    positions = np.repeat(offsets[None], 12, 0)
    positions[:, 0] = root
    return offsets, rotations, root, forward_kinematics(rotations, positions, PARENTS)[0]


def test_joints_by_hand(write):
    """Prevents: positions added to the OFFSET, or rotations of the wrong sense."""
    bvh = read_bvh(write(TINY))
    joints, rotations = bvh.forward()
    assert bvh.names == ("hips", "arm", "hand", "leg") and bvh.parents.tolist() == [-1, 0, 1, 0] and bvh.fps == 20
    np.testing.assert_allclose(joints[0], [[0, 0, 0], [0, 10, 0], [0, 15, 0], [0, -10, 0]], atol=1e-12)
    np.testing.assert_allclose(joints[1], [[4, 5, 6], [-6, 5, 6], [-6, 0, 6], [16, 6, 6]], atol=1e-12)
    np.testing.assert_allclose(rotations[1, 1] @ [1, 0, 0], [-1, 0, 0], atol=1e-12)  # two quarter turns about Z


@pytest.mark.parametrize("order", list(itertools.permutations("XYZ")))
def test_any_channel_order_reads_as_bvhio_reads_it(write, order):
    """Prevents: a transposed product of Euler angles."""
    text = TINY.replace("Yrotation Zrotation Xrotation", " ".join(f"{axis}rotation" for axis in order))
    text = text.replace("4 5 6 90 0 0  0 90 0", "4 5 6 20 -30 40  50 60 -70")
    path = write(text)
    np.testing.assert_allclose(read_bvh(path).forward()[0][1], _bvhio_joints(path, 1, read_bvh(path).names), atol=1e-4)


def test_a_joint_may_be_called_motion(write):
    assert read_bvh(write(TINY.replace("JOINT arm", "JOINT MOTION_arm"))).names[1] == "MOTION_arm"


def test_windows_line_ends_change_nothing(write):
    unix = read_bvh(write(TINY)).forward()[0]
    np.testing.assert_array_equal(read_bvh(write(TINY.replace("\n", "\r\n"))).forward()[0], unix)


def test_export_read_by_bvhio_gives_the_same_joints(tmp_path, clip):
    """Prevents: files that other programs pose differently."""
    offsets, rotations, root, joints = clip
    path = tmp_path / "out.bvh"
    write_bvh(path, JOINT_NAMES, PARENTS, offsets, root, rotations, fps=20)
    for frame in (0, 3, 11):
        np.testing.assert_allclose(_bvhio_joints(path, frame, JOINT_NAMES) / 100, joints[frame], atol=1e-4)


def test_export_import_is_identity(tmp_path, clip):
    offsets, rotations, root, joints = clip
    path = tmp_path / "out.bvh"
    write_bvh(path, JOINT_NAMES, PARENTS, offsets, root, rotations, fps=30, unit_scale=1.0)
    bvh = read_bvh(path)
    order = [bvh.names.index(name) for name in JOINT_NAMES]
    assert bvh.fps == pytest.approx(30, abs=1e-4)
    np.testing.assert_allclose(bvh.forward()[0][:, order], joints, atol=1e-4)
    np.testing.assert_allclose(bvh.rotations[:, order], rotations, atol=1e-6)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("HIERARCHY", "SOLID cube", "not a BVH file"),
        ("MOTION", "", "no MOTION section"),
        ("Frames: 2", "Frames: 0", "Frames: 0, at least 1"),
        ("Frames: 2", "Frames: 3", "holds 2 frames, 3 expected"),
        ("Frames: 2", "Frames 2", "needs 'Frames: N'"),
        ("Time: 0.05", "Time: 0", "positive number of seconds"),
        ("1 -12 0 90 0 0", "1 -12 0", r"frame 2 \(line 34\) has 15 values, 18 expected"),
        ("1 -12 0 90 0 0", "1 -12 0 90 0 nan", "frame 2 holds a value that is not finite"),
        ("1 -12 0 90 0 0", "1 -12 0 90 0 x7", r"'x7' in frame 2 \(line 34\) is not a number"),
        ("JOINT leg\n  {", "JOINT leg", "HIERARCHY is broken"),
        ("Yrotation Zrotation Xrotation", "Yrotation Zrotation Wrotation", "unknown channel 'Wrotation'"),
        ("OFFSET 0 -10 0", "OFFSET 0 ten 0", "HIERARCHY is broken after joint 'leg'"),
    ],
)
def test_damage_is_named(write, old, new, message):
    """Prevents: a damaged file read as a plausible motion, or an error nobody understands."""
    assert old in TINY
    with pytest.raises(ValueError, match=message):
        read_bvh(write(TINY.replace(old, new)))


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_bvh(tmp_path / "no.bvh")


def test_writer_refuses_what_readers_would_choke_on(tmp_path, clip):
    offsets, rotations, root, _ = clip
    with pytest.raises(ValueError, match="shapes"):
        write_bvh(tmp_path / "a.bvh", JOINT_NAMES, PARENTS, offsets, root[:-1], rotations)
    with pytest.raises(ValueError, match="not finite"):
        write_bvh(tmp_path / "a.bvh", JOINT_NAMES, PARENTS, offsets, root * np.nan, rotations)
    assert not list(tmp_path.iterdir())


def _bvhio_joints(path, frame, names):
    hierarchy = bvhio.readAsHierarchy(str(path)).loadPose(frame)
    by_name = {joint.Name: np.array(joint.PositionWorld) for joint, _, _ in hierarchy.layout()}
    return np.stack([by_name[name] for name in names])
