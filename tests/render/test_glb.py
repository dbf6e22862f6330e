"""GLB files: valid to the Khronos validator, and posed by three.js as we pose them."""

from __future__ import annotations

import json
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from core.body.skinning import forward_joints, ground_offset, skin
from core.body.smpl_files import Body, load_body
from core.motion.rotations import rotvec_to_matrix
from core.render.glb import glb_bytes, write_glb

TIMES_S = (0.0, 0.5, 1.45)


def moving(frames: int = 30, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A pose (F, 24, 3, 3) that swings smoothly and turns past half a circle, and where it goes (F, 3)."""
    t = np.linspace(0.0, 1.0, frames)[:, None, None]
    angles = np.random.default_rng(seed).normal(0.0, 0.5, (1, 24, 3)) * np.sin(5.0 * t)
    angles[:, 0] = [0.0, 4.0, 0.0] * t[:, 0]
    return rotvec_to_matrix(angles), np.concatenate([t[:, 0], 0.9 + 0 * t[:, 0], 2 * t[:, 0]], 1)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("glb") / "motion.glb"
    write_glb(path, load_body(), *moving())
    yield path


def node(packages: Path, script: str, *arguments: object) -> dict:
    command = ["node", script, *map(str, arguments)]
    done = subprocess.run(command, cwd=packages, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_khronos_validator_finds_nothing(node_packages: Path, file: Path) -> None:
    """Prevents files that some viewer refuses: no error, no warning."""
    issues = node(node_packages, "validate.mjs", file)
    assert issues["numErrors"] == issues["numWarnings"] == 0, issues["messages"]


def test_three_js_moves_the_body_as_we_do(node_packages: Path, file: Path) -> None:
    """Prevents a body that stands still, limbs that go elsewhere, and soles below the floor."""
    body, (pose, trans) = load_body(), moving()
    played = node(node_packages, "play.mjs", file, *TIMES_S)
    frames = np.rint(np.array(TIMES_S) * 20).astype(int)
    lift = [0.0, ground_offset(body), 0.0]
    joints = np.array(played["joints"])
    np.testing.assert_allclose(joints, forward_joints(body, pose, trans)[frames] + lift, atol=1e-4)
    assert np.abs(joints[1] - joints[0]).max() > 0.1 and played["duration"] == pytest.approx(1.45, abs=1e-5)
    posed = skin(body, pose[frames], trans[frames]) + np.array(lift, np.float32)
    np.testing.assert_allclose(np.array(played["vertices"]), np.stack([posed.min(1), posed.max(1)], 1), atol=1e-3)


def test_container_is_whole_and_names_the_licence() -> None:
    """Prevents chunks whose lengths lie, and a body that leaves without its licence."""
    body = load_body()
    data = glb_bytes(body, *moving(2))
    magic, version, length, json_length, kind = struct.unpack("<4sIII4s", data[:20])
    assert (magic, version, length, kind) == (b"glTF", 2, len(data), b"JSON") and json_length % 4 == 0
    document = json.loads(data[20 : 20 + json_length])
    terms = document["asset"]["copyright"]  # a CC0 body does not make a non-commercial motion free
    assert body.licence in terms and "Bandai Namco" in terms and "CC BY-NC 4.0" in terms
    assert [node["name"] for node in document["nodes"]][-1] == "body"
    binary_length, kind = struct.unpack("<I4s", data[20 + json_length : 28 + json_length])
    assert kind == b"BIN\0" and len(data) == 28 + json_length + binary_length


def test_vertex_without_a_face_and_a_large_body_stay_valid(node_packages: Path, tmp_path: Path) -> None:
    """Prevents normals of length zero, and 16-bit indices that fold a large body onto itself."""
    rng = np.random.default_rng(0)
    weights = rng.random((70_000, 24)).astype(np.float32)
    body = Body(
        vertices=rng.normal(size=(70_000, 3)).astype(np.float32),
        faces=np.array([[0, 1, 2], [69_997, 69_998, 69_999]], np.int32),
        weights=weights / weights.sum(1, keepdims=True),
        joints=load_body().joints,
        parents=load_body().parents,
        name="cloud",
        licence="none",
        path=Path("none"),
    )
    write_glb(tmp_path / "cloud.glb", body, *moving(1))
    issues = node(node_packages, "validate.mjs", tmp_path / "cloud.glb")
    assert issues["numErrors"] == 0, issues["messages"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"pose": np.zeros((30, 22, 3, 3))}, "don't fit"),
        ({"trans": np.zeros((29, 3))}, "don't fit"),
        ({"trans": np.full((30, 3), np.nan)}, "not finite"),
        ({"fps": 0.0}, "fps=0.0 is not allowed"),
    ],
)
def test_bad_motion_is_refused_and_nothing_written(tmp_path: Path, change: dict, sentence: str) -> None:
    """Prevents a file that no viewer opens, and the traceback of a numpy function."""
    pose, trans = moving()
    with pytest.raises(ValueError, match=sentence):
        write_glb(tmp_path / "bad.glb", load_body(), **{"pose": pose, "trans": trans, **change})
    assert not list(tmp_path.iterdir())
