"""The published SPM as a reward of features in physical units; implements core.diffusion.protocol's Reward."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.models.mld.spm import Spm, SpmConfig
from core.text.features import TextFeatures, check_width


class SpmReward(nn.Module):
    """An SPM with the statistics its training data was normalised by; text: token features of the encoder it reads."""

    feature_mean: Tensor  # (263,) Mean.npy of the training data
    feature_std: Tensor  # (263,) Std.npy

    def __init__(self, config: SpmConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or SpmConfig()
        self.spm = Spm(config)
        self.register_buffer("feature_mean", torch.zeros(config.features))
        self.register_buffer("feature_std", torch.ones(config.features))

    @property
    def reads(self) -> str:
        """The text encoder whose features it knows."""
        return self.config.text_encoder

    def embed_motion(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Features (B, F, 263) in physical units, frames (B,) -> unit embeddings (B, E)."""
        x = (features - self.feature_mean) / self.feature_std
        return F.normalize(self.spm.encode_motion(x, lengths).flatten(1), dim=-1)

    def embed_text(self, text: TextFeatures) -> Tensor:
        """Token features -> unit embeddings (B, E); ValueError for text of another encoder."""
        check_width(text, self.config.text_width, self.reads)
        return F.normalize(self.spm.encode_text(text.tokens, text.mask).flatten(1), dim=-1)

    def forward(self, features: Tensor, lengths: Tensor, text: TextFeatures) -> Tensor:
        """Reward (B,) in [-1, 1] of features (B, F, 263): cosine of motion i and text i. Raises as embed_text."""
        return (self.embed_motion(features, lengths) * self.embed_text(text)).sum(-1)

    def noised(self, x_t: Tensor, t: int, lengths: Tensor, text: TextFeatures) -> Tensor:
        """Reward (B,) of normalised features x_t (B, F, 263) still at noise level t; t = -1 is the clean end.

        For models that diffuse the features themselves (MDM); ValueError for latents.
        """
        if x_t.shape[-1] != self.config.features:
            raise ValueError(
                f"the SPM's noise-aware mode reads motions of {self.config.features} features, x_t has "
                f"{x_t.shape[-1]}: a latent. Use method easytune, a model without a VAE such as MDM, or a reward of "
                "latents (`python -m core train latent-reward`)."
            )
        time = torch.as_tensor(max(t, 0), device=x_t.device)
        motion = self.spm.encode_motion(x_t[:, : int(lengths.max())], lengths, time).flatten(1)
        return (F.normalize(motion, dim=-1) * self.embed_text(text)).sum(-1)
