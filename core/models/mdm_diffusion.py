"""MDM as a base model: diffusion on normalised features, no VAE; implements core.diffusion.protocol.

Here a "latent" is the motion itself: L = F frames, D = 263. Published weights know one sentence vector; a model of our
own also sees the words (`MdmConfig.text_tokens`), since the sentence vector of MiniLM can't tell left from right.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from core.diffusion.schedule import SCHEDULER
from core.models.mdm import Mdm, MdmConfig
from core.models.mld.layers import frame_mask
from core.text.features import TextFeatures


@dataclass(frozen=True)
class MdmDiffusionConfig:
    """The network, its schedule and its text encoder; defaults: our own model. Published: MdmConfig(), CLIP.

    Our own is small so that a CPU can train it (1.6 M weights, a third of the cost of 256 wide and 6 deep), and without
    dropout: it made a step half as dear again, and a run this short sees no motion often enough to learn it by heart.
    """

    network: MdmConfig = field(
        default_factory=lambda: MdmConfig(
            width=192, ff_width=512, layers=4, dropout=0.0, text_width=384, mask_frames=True, text_tokens=True
        )
    )
    timesteps: int = 1000  # training steps of the cosine schedule; 50 in some published models
    text_encoder: str = "minilm"  # a name of core.text.encoder; clip-vit-base-patch32 for published weights


class MdmDiffusion(nn.Module):
    """See the module docstring. Features go in and come out in physical units; normalisation is inside."""

    denoiser: nn.Module
    feature_mean: Tensor  # (263,) of the training data
    feature_std: Tensor  # (263,)

    def __init__(self, config: MdmDiffusionConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or MdmDiffusionConfig()
        self.denoiser = Mdm(config.network)
        self.register_buffer("feature_mean", torch.zeros(config.network.features))
        self.register_buffer("feature_std", torch.ones(config.network.features))
        self.schedule: dict[str, Any] = SCHEDULER | {"num_train_timesteps": config.timesteps}
        self.text_encoder: Any = None  # set by load_diffusion where it isn't the default one

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.feature_mean.device

    def latent_shape(self, lengths: Tensor) -> tuple[int, int]:
        """(F, 263): the longest motion of the batch."""
        return int(lengths.max()), self.config.network.features

    def predict_x0(self, x_t: Tensor, t: int, text: TextFeatures, guidance_scale: float, lengths: Tensor) -> Tensor:
        """Guided clean estimate x0_hat (B, F, 263) of x_t (B, F, 263) at training timestep t; normalised features.

        Padded frames are zero: an anchor or a distance counts motion only.
        """
        steps = torch.as_tensor(t, device=x_t.device)
        x0_hat = self.estimate(x_t, steps, text, lengths)
        if guidance_scale != 1.0:
            unconditional = self.denoiser(x_t, steps, None, lengths)
            x0_hat = unconditional + guidance_scale * (x0_hat - unconditional)
        return x0_hat * frame_mask(lengths, x0_hat.shape[1], x0_hat.device)[..., None]

    def estimate(self, x_t: Tensor, t: Tensor, text: TextFeatures, lengths: Tensor) -> Tensor:
        """Clean estimate (B, F, 263) without guidance; t: () or (B,) timesteps. ValueError for a foreign text."""
        if text.pooled.shape[-1] != self.config.network.text_width:
            raise ValueError(
                f"text has {text.pooled.shape[-1]} numbers, this MDM knows {self.config.network.text_width}: "
                f"it was made for another text encoder than {self.config.text_encoder}. Import it with the right one."
            )
        words = (text.tokens.to(x_t.dtype), text.mask) if self.config.network.text_tokens else None
        return self.denoiser(x_t, t, text.pooled.to(x_t.dtype), lengths, words)

    def decode(self, x0: Tensor, lengths: Tensor) -> Tensor:
        """Normalised features (B, F, 263) -> physical units, padded frames zero, differentiable."""
        x0 = x0[:, : int(lengths.max())]
        mask = frame_mask(lengths, x0.shape[1], x0.device)
        return (x0 * self.feature_std + self.feature_mean) * mask[..., None]

    def encode(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Features (B, F, 263) in physical units -> normalised ones, padded frames zero."""
        mask = frame_mask(lengths, features.shape[1], features.device)
        return (features - self.feature_mean) / self.feature_std * mask[..., None]
