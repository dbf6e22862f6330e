"""The published SPM's training losses on the published arrays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from core.models.mld.spm_losses import SpmLossConfig, filtered_info_nce, gaussian_kl, spm_loss

FIXTURE = Path(__file__).parents[1] / "fixtures" / "spm_losses.npz"


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def data(request) -> dict[str, torch.Tensor]:
    with np.load(FIXTURE) as file:
        return {key: torch.from_numpy(np.asarray(file[key])).to(request.param) for key in file.files}


@pytest.mark.parametrize("name", ["T0.1_thr0.9", "T0.7_thr0.8", "T0.1_thr0.8"])
@pytest.mark.parametrize("filtered", [True, False])
def test_contrast(data, name, filtered):
    """Prevents a threshold on the cosine itself, and near-duplicate texts pushed apart."""
    temperature, threshold = (float(part.lstrip("Tthr")) for part in name.split("_"))
    config = SpmLossConfig(temperature=temperature, same_text=threshold)
    loss = filtered_info_nce(data["x"], data["y"], data["sent_emb"] if filtered else None, config)
    expected = data[f"infonce_{name}_{'filtered' if filtered else 'unfiltered'}"]
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)


def test_divergence(data):
    q, p = ((data[f"mu_{k}"], (0.5 * data[f"logvar_{k}"]).exp()) for k in "qp")
    torch.testing.assert_close(gaussian_kl(q, p), data["kl_qp"], rtol=1e-5, atol=0)
    standard = torch.zeros_like(q[0]), torch.ones_like(q[0])
    torch.testing.assert_close(gaussian_kl(q, standard), data["kl_q_std"], rtol=1e-5, atol=0)


def test_whole_loss(data):
    """Prevents a term left out or weighted by another number."""
    batch_first = {k: v.transpose(0, 1) for k, v in data.items() if v.dim() == 3 and len(v) == 1}
    posteriors = tuple((batch_first[f"cl_mu_{k}"], batch_first[f"cl_std_{k}"]) for k in "mt")
    latents = batch_first["cl_z_m"], batch_first["cl_z_t"]
    made = data["cl_rec_m"], data["cl_rec_t"]
    loss = spm_loss(made, data["cl_ref"], posteriors, latents, data["sent_emb"])
    torch.testing.assert_close(loss, data["compute_loss"], rtol=1e-5, atol=0)
    for change in ({"kl": 0.1}, {"latent": 0.1}, {"contrastive": 0.0}):
        other = spm_loss(
            made, data["cl_ref"], posteriors, latents, data["sent_emb"], replace(SpmLossConfig(), **change)
        )
        assert not torch.allclose(other, loss, rtol=1e-3)


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="temperature=0 must be positive"):
        SpmLossConfig(temperature=0)
    z = torch.zeros(2, 2, 4)
    with pytest.raises(ValueError, match="latents have 2 tokens"):
        spm_loss((z, z), z, ((z, z + 1), (z, z + 1)), (z, z), z[:, 0])
