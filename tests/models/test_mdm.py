"""MDM and its diffusion tables against the published code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from core.models.mdm import Mdm, MdmConfig, SinusoidTable, cosine_diffusion

SMALL = MdmConfig(width=64, ff_width=128, layers=2)
TABLES = ("sequence_pos_encoder.pe", "embed_timestep.sequence_pos_encoder.pe")


@pytest.fixture
def data(published):
    return published("mdm_small")


def load(data, config=SMALL, rows=1000):
    """The fixture stores the position table once, apart from the weights."""
    model = Mdm(config).to(data.dtype)
    table = data["pe_first_1000_rows"][:rows, None]
    model.load_state_dict(data.weights | dict.fromkeys(TABLES, table), strict=True)
    return model.eval().requires_grad_(False)


def published_axes(features):
    """(B, F, 263) -> the published (B, 263, 1, F)."""
    return features.transpose(1, 2)[:, :, None]


def test_published_output(data):
    """Prevents another order of condition and frames, and a text dropped with its bias when unconditional."""
    model = load(data)
    x_t, t, text = data["x"][:, :, 0].transpose(1, 2), data["timesteps"], data["text_embed"][0]
    conditional, unconditional = model(x_t, t, text), model(x_t, t, None)
    data.check(published_axes(conditional), "out_cond")
    data.check(published_axes(unconditional), "out_uncond")
    data.check(published_axes(unconditional + 2.5 * (conditional - unconditional)), "out_cfg2.5")


def test_published_frame_mask(data):
    """Prevents padded frames from leaking into the newer released models, which hide them."""
    model = load(data, replace(SMALL, mask_frames=True))
    x_t, t, text = data["x"][:, :, 0].transpose(1, 2), data["timesteps"], data["text_embed"][0]
    data.check(published_axes(model(x_t, t, text, data["lengths"])), "out_mask_frames")
    with pytest.raises(ValueError, match="lengths"):
        model(x_t, t, text)


def test_position_table(data):
    own = SinusoidTable(64).pe[:1000, 0]
    tolerance = 2e-6 if data.same_exp else 7e-5  # the last bit of a frequency, times 999
    torch.testing.assert_close(own, data.arrays["pe_first_1000_rows"], atol=tolerance, rtol=0)


def test_other_row_counts_load(data):
    """Prevents a released checkpoint with a shorter position table from being refused."""
    model = load(data, rows=200)
    assert [len(model.state_dict()[key]) for key in TABLES] == [200, 200]


def test_full_size_keys(published_keys, keys_of):
    """Prevents a released checkpoint from failing to load by key."""
    assert keys_of(Mdm()) == published_keys("keys_mdm_humanml_trans_enc_512")


@pytest.mark.parametrize("steps", [50, 1000])
def test_published_diffusion_tables(steps):
    """Prevents a schedule off by one step or without the cap on beta."""
    tables = cosine_diffusion(steps)
    derived = {
        "sqrt_alphas_cumprod": np.sqrt(tables.alphas_cumprod),
        "sqrt_one_minus_alphas_cumprod": np.sqrt(1.0 - tables.alphas_cumprod),
    }
    with np.load(Path(__file__).parents[1] / "fixtures" / "mdm_small.npz") as file:
        names = [key.split("/")[1] for key in file.files if key.startswith(f"diffusion{steps}/")]
        assert len(names) == 8
        for name in names:
            actual = derived[name] if name in derived else getattr(tables, name)
            np.testing.assert_allclose(actual, file[f"diffusion{steps}/{name}"], rtol=1e-10, atol=1e-14, err_msg=name)


def test_bad_step_count_is_named():
    with pytest.raises(ValueError, match="steps=1"):
        cosine_diffusion(1)
