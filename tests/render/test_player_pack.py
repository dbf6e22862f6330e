"""The bytes that the browser player reads."""

from __future__ import annotations

import base64
import json
import struct
from types import SimpleNamespace

import numpy as np
import pytest

from core.motion.rotations import rotvec_to_matrix
from core.render.player_pack import body_bytes, pack_body, pack_pair, quantize_rotations, relabel, top_influences


def small_body(n_vertices: int = 50, seed: int = 0) -> SimpleNamespace:
    rng = np.random.default_rng(seed)
    weights = rng.random((n_vertices, 24)) ** 6
    return SimpleNamespace(
        vertices=rng.normal(size=(n_vertices, 3)).astype(np.float32),
        faces=rng.integers(0, n_vertices, (70, 3)),
        weights=(weights / weights.sum(1, keepdims=True)).astype(np.float32),
        joints=rng.normal(size=(24, 3)).astype(np.float32),
        parents=np.arange(24) - 1,
    )


def read_body(data: bytes) -> tuple[dict, dict[str, np.ndarray]]:
    """An independent reader, as app/player_math.js reads."""
    assert data[:4] == b"EABD"
    length = struct.unpack("<I", data[4:8])[0]
    header = json.loads(data[8 : 8 + length])
    n, at, arrays = header["vertices"], 8 + length, {}
    assert at % 4 == 0, "a Float32Array must start at a multiple of four bytes"
    index_type = {2: "<u2", 4: "<u4"}[header["index_bytes"]]
    parts = [("positions", "<f4", n, 3), ("joints", "u1", n, 4), ("weights", "u1", n, 4)]
    for name, kind, rows, columns in [*parts, ("faces", index_type, header["faces"], 3)]:
        size = rows * columns * np.dtype(kind).itemsize
        arrays[name] = np.frombuffer(data[at : at + size], kind).reshape(rows, columns)
        at += size
    assert at == len(data), "bytes left over"
    return header, arrays


def unpack(motion: dict) -> tuple[np.ndarray, np.ndarray]:
    rotations = np.frombuffer(base64.b64decode(motion["rotations"]), "<i2").reshape(motion["frames"], 24, 4)
    return rotations, np.frombuffer(base64.b64decode(motion["translations"]), "<f4").reshape(-1, 3)


def quaternion_matrices(q: np.ndarray) -> np.ndarray:
    """Textbook formula, written apart from the packing code."""
    w, x, y, z = np.moveaxis(q / np.linalg.norm(q, axis=-1, keepdims=True), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), (0, 1), (-2, -1))


def motion(frames: int = 30, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rotvec_to_matrix(rng.normal(size=(frames, 24, 3))), rng.normal(size=(frames, 3))


def test_body_arrays_survive_the_file():
    body = small_body()
    header, arrays = read_body(body_bytes(body))
    np.testing.assert_array_equal(arrays["positions"], body.vertices)
    np.testing.assert_array_equal(arrays["faces"], body.faces)
    np.testing.assert_allclose(header["joints"], body.joints, atol=1e-6)
    assert header["parents"] == list(range(-1, 23))


def test_body_is_lifted_by_the_depth_of_its_soles():
    """Without it the feet sink into the floor by the height of the toe joints."""
    body = small_body()
    body.vertices[:, 1] = np.linspace(0.0, 1.7, len(body.vertices))
    body.joints[[10, 11], 1] = 0.03
    header, _ = read_body(body_bytes(body))
    assert header["ground_offset"] == pytest.approx(0.03, abs=1e-6)


def test_large_body_gets_wide_indices():
    """uint16 would fold vertex 65,536 onto vertex 0."""
    body = small_body(70_000)
    _, arrays = read_body(body_bytes(body))
    np.testing.assert_array_equal(arrays["faces"], body.faces)


def test_weights_sum_to_255_and_name_the_heaviest_joints():
    """A row of 254 pulls its vertex 7 mm towards the origin."""
    weights = small_body(500).weights
    indices, packed = top_influences(weights)
    assert (packed.astype(int).sum(1) == 255).all()
    np.testing.assert_array_equal(indices[:, 0], weights.argmax(1))
    kept = np.take_along_axis(weights, indices.astype(int), 1)
    np.testing.assert_allclose(packed / 255.0, kept / kept.sum(1, keepdims=True), atol=1 / 255)


def test_body_file_is_named_by_content_and_written_once(tmp_path):
    first = pack_body(small_body(), tmp_path / "deep")
    written = first.stat().st_mtime_ns
    assert pack_body(small_body(), tmp_path / "deep") == first
    assert first.stat().st_mtime_ns == written
    assert pack_body(small_body(seed=1), tmp_path / "deep") != first


def test_cut_body_file_is_written_again(tmp_path):
    path = pack_body(small_body(), tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    assert pack_body(small_body(), tmp_path).read_bytes() == whole


def test_pair_returns_the_motions_it_was_given():
    (pose_a, trans_a), (pose_b, trans_b) = motion(30), motion(45, seed=1)
    pack = json.loads(json.dumps(pack_pair(pose_a, trans_a, pose_b, trans_b)))
    for packed, pose, trans in zip(pack["motions"], (pose_a, pose_b), (trans_a, trans_b), strict=True):
        rotations, translations = unpack(packed)
        np.testing.assert_allclose(quaternion_matrices(rotations), pose, atol=2e-4)
        np.testing.assert_allclose(translations, trans, atol=1e-6)


def test_neighbouring_quaternions_share_a_hemisphere():
    """Else the body whirls round for one twentieth of a second when it turns past half a circle."""
    angles = np.zeros((90, 24, 3))
    angles[:, 0, 1] = np.linspace(0, 4 * np.pi, 90)
    q = quantize_rotations(rotvec_to_matrix(angles)).astype(float)
    assert (np.sum(q[1:] * q[:-1], -1) > 0).all()


def test_pair_is_blind_and_small():
    """A name in the value would tell the voter; 6 s must stay near 65 kB."""
    pack = pack_pair(*motion(120), *motion(120, seed=1))
    assert set(pack) == {"version", "nonce", "fps", "labels", "motions"}
    assert pack["labels"] == ["A", "B"]
    assert len(json.dumps(pack)) < 67_000


def test_same_motions_fire_again_and_new_labels_do_not():
    pack = pack_pair(*motion(), *motion())
    assert pack_pair(*motion(), *motion())["nonce"] != pack["nonce"]
    renamed = relabel(pack, ("A is base", "B is aligned"))
    assert renamed["nonce"] == pack["nonce"] and renamed["labels"] == ["A is base", "B is aligned"]
    assert pack["labels"] == ["A", "B"]


def test_single_motion_has_one_label():
    pack = pack_pair(*motion())
    assert len(pack["motions"]) == 1 and pack["labels"] == ["A"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda pose, trans: (pose[:, :22], trans), "pose_left has shape"),
        (lambda pose, trans: (pose[:0], trans[:0]), "pose_left has shape"),
        (lambda pose, trans: (pose, trans[:-1]), "trans_left has shape"),
        (lambda pose, trans: (pose, trans * np.nan), "not finite"),
    ],
)
def test_bad_motion_is_refused(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        pack_pair(*change(*motion()), *motion())


def test_bad_rate_and_labels_are_refused():
    with pytest.raises(ValueError, match="fps=0"):
        pack_pair(*motion(), fps=0)
    with pytest.raises(ValueError, match="1 entries for 2 motions"):
        pack_pair(*motion(), *motion(), labels=["A"])


def test_a_body_that_motions_were_not_made_for_tells_how_to_scale_their_path():
    """Prevents longer legs that slide or sink: the browser scales the pelvis' way by leg length."""
    body = small_body()
    larger = SimpleNamespace(**{**vars(body), "joints": 1.25 * body.joints})
    path = read_body(body_bytes(larger, body))[0]["path"]  # type: ignore[arg-type]
    assert path["scale"] == pytest.approx(1.25, abs=1e-4)
    np.testing.assert_allclose(path["rest"], body.joints[0], atol=1e-6)
    assert "path" not in read_body(body_bytes(body))[0]  # type: ignore[arg-type]
