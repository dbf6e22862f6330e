"""Motion VAE: 263 features at 20 fps <-> latents at 5 Hz, (B, F, 263) <-> (B, ceil(F / 4), D).

A convolutional VAE with 4x temporal reduction in place of MLD's single global token: local latents reconstruct an
8-second motion several times more exactly at the same cost and let text meet time (Guo et al. 2023, Dai et al. 2024).
Reconstruction is scored on normalised features, on joints and on the *integrated* root path, so drift is trained away.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.models.layers import ConvBlock, length_mask, neighbours
from core.motion.features import recover_joints_torch
from core.motion.skeleton import N_FEATURES

DOWN = 4  # frames per latent


@dataclass(frozen=True)
class VaeConfig:
    """Architecture of the motion VAE."""

    latent_dim: int = 32  # D, numbers per latent
    width: int = 256
    hidden: int = 640  # inner width of a block
    blocks: int = 4  # residual blocks in encoder and decoder each
    refine_width: int = 192  # full-rate smoothing over the seams between patches


def latent_lengths(lengths: Tensor) -> Tensor:
    """Frames (B,) -> latents (B,)."""
    return (lengths + DOWN - 1) // DOWN


class MotionVae(nn.Module):
    """See the module docstring. Inputs and outputs are features in physical units; normalisation is inside."""

    feature_mean: Tensor  # (263,) over the training set
    feature_std: Tensor  # (263,), one spread per group of features
    latent_mean: Tensor  # (D,) over the training set
    latent_std: Tensor  # (D,)

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.config = config
        c = config
        dilations = [(1, 2, 4)[i % 3] for i in range(c.blocks)]
        self.patch = nn.Linear(3 * DOWN * N_FEATURES, c.width)
        self.encoder = nn.ModuleList(ConvBlock(c.width, c.hidden, d) for d in dilations)
        self.to_latent = nn.Linear(c.width, 2 * c.latent_dim)
        self.from_latent = nn.Linear(3 * c.latent_dim, c.width)
        self.decoder = nn.ModuleList(ConvBlock(c.width, c.hidden, d) for d in reversed(dilations))
        self.unpatch = nn.Linear(3 * c.width, DOWN * N_FEATURES)
        self.refine = nn.Sequential(nn.Linear(5 * N_FEATURES, c.refine_width), nn.GELU())
        self.refine_out = nn.Linear(3 * c.refine_width, N_FEATURES)
        nn.init.zeros_(self.refine_out.weight)
        nn.init.zeros_(self.refine_out.bias)
        self.register_buffer("feature_mean", torch.zeros(N_FEATURES))
        self.register_buffer("feature_std", torch.ones(N_FEATURES))
        self.register_buffer("latent_mean", torch.zeros(c.latent_dim))
        self.register_buffer("latent_std", torch.ones(c.latent_dim))

    def normalize(self, features: Tensor) -> Tensor:
        """Physical units -> zero mean, unit spread per group of features."""
        return (features - self.feature_mean) / self.feature_std

    def encode_distribution(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, F, 263), (B,) -> mean and log-variance (B, L, D) in the VAE's own scale, padded latents zero."""
        x = self.normalize(features) * length_mask(lengths, features.shape[1])[..., None]
        x = F.pad(x, (0, 0, 0, -x.shape[1] % DOWN)).unflatten(1, (-1, DOWN)).flatten(2)  # (B, L, 4 * 263)
        mask = length_mask(latent_lengths(lengths), x.shape[1])[..., None]
        h = self.patch(neighbours(x)) * mask
        for block in self.encoder:
            h = block(h, mask)
        mean, log_variance = (self.to_latent(h) * mask).chunk(2, -1)
        return mean, log_variance.clamp(-12.0, 4.0)

    def encode(self, features: Tensor, lengths: Tensor) -> Tensor:
        """(B, F, 263), (B,) -> deterministic latents (B, L, D), unit variance over the training set."""
        mean, _ = self.encode_distribution(features, lengths)
        mask = length_mask(latent_lengths(lengths), mean.shape[1])[..., None]
        return (mean - self.latent_mean) / self.latent_std * mask

    def decode(self, latents: Tensor, lengths: Tensor) -> Tensor:
        """Unit-variance latents (B, L, D), frames (B,) -> features (B, max frames, 263), padded frames zero."""
        return self._decode(latents * self.latent_std + self.latent_mean, lengths)

    def _decode(self, z: Tensor, lengths: Tensor) -> Tensor:
        mask = length_mask(latent_lengths(lengths), z.shape[1])[..., None]
        h = self.from_latent(neighbours(z * mask)) * mask
        for block in self.decoder:
            h = block(h, mask)
        x = self.unpatch(neighbours(h)).unflatten(-1, (DOWN, N_FEATURES)).flatten(1, 2)[:, : int(lengths.max())]
        frame_mask = length_mask(lengths, x.shape[1])[..., None]
        x = x * frame_mask
        around = torch.cat([neighbours(x), neighbours(x, 2)[..., :N_FEATURES], neighbours(x, 2)[..., -N_FEATURES:]], -1)
        x = x + self.refine_out(neighbours(self.refine(around) * frame_mask))
        return (x.float() * self.feature_std + self.feature_mean) * frame_mask

    def reconstruct(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Decode of the mean latent, (B, F, 263)."""
        return self.decode(self.encode(features, lengths), lengths)


@dataclass(frozen=True)
class VaeLossWeights:
    """Weights of the terms of vae_loss; all errors are smooth L1."""

    root: float = 4.0  # extra on the four root features
    joints: float = 20.0  # metres, root-relative
    path: float = 4.0  # metres, joints in the world after integrating the root
    slide: float = 2.0  # metres a frame, error of foot velocity in the world
    acceleration: float = 6.0  # metres a frame squared, error of joint acceleration in the world: no jitter
    kl: float = 3e-3


def vae_loss(model: MotionVae, features: Tensor, lengths: Tensor, weights: VaeLossWeights) -> dict[str, Tensor]:
    """Losses of one batch (B, F, 263); 'loss' is the weighted sum, the rest in the units named in VaeLossWeights."""
    mean, log_variance = model.encode_distribution(features, lengths)
    z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
    decoded = model._decode(z, lengths)
    mask = length_mask(lengths, decoded.shape[1])[..., None].float()
    frames = mask.sum()
    error = F.smooth_l1_loss(model.normalize(decoded), model.normalize(features), reduction="none", beta=0.1) * mask
    joints, target = recover_joints_torch(decoded), recover_joints_torch(features)
    local = F.smooth_l1_loss(decoded[..., 4:67], features[..., 4:67], reduction="none", beta=0.02) * mask
    path = F.smooth_l1_loss(joints, target, reduction="none", beta=0.05).mean(-1).mean(-1, keepdim=True) * mask
    feet = [7, 8, 10, 11]
    slide = (joints[:, 1:, feet] - joints[:, :-1, feet]) - (target[:, 1:, feet] - target[:, :-1, feet])
    bend = (joints.diff(n=2, dim=1) - target.diff(n=2, dim=1)).abs().mean(-1).mean(-1) * mask[:, 2:, 0]
    real = latent_lengths(lengths).sum() * mean.shape[-1]
    latent_mask = length_mask(latent_lengths(lengths), mean.shape[1])[..., None]
    kl = (0.5 * (mean**2 + log_variance.exp() - 1 - log_variance) * latent_mask).sum() / real
    parts = {
        "reconstruction": error.sum() / frames / N_FEATURES,
        "root": error[..., :4].sum() / frames / 4,
        "joints": local.sum() / frames / 63,
        "path": path.sum() / frames,
        "slide": (slide.abs().mean(-1).mean(-1) * mask[:, 1:, 0]).sum() / frames,
        "acceleration": bend.sum() / frames,
        "kl": kl,
    }
    w = {"reconstruction": 1.0, **{k: getattr(weights, k) for k in parts if k != "reconstruction"}}
    if not math.isfinite(float(parts["kl"].detach())):
        raise FloatingPointError("the VAE diverged (KL is not finite). Lower --loop.learning-rate.")
    return {
        "loss": sum((w[k] * parts[k] for k in parts), kl.new_zeros(())),
        **{k: v.detach() for k, v in parts.items()},
    }
