"""The published HumanML3D evaluator (T2M): motions and captions -> one embedding space, for FID and R-precision.

Parameter names as published; the released file `text_mot_match/model/finest.tar` holds one dictionary per network.
Word vectors are GloVe (300 numbers) plus a one-hot part of speech (15), as that release expects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from core.models.mld.layers import frame_mask

MAX_FRAMES = 196  # of a motion in the published evaluation
FRAMES_PER_MOVEMENT = 4  # two strided convolutions
CONTACTS = 4  # the last features, foot contacts, are not looked at


@dataclass(frozen=True)
class T2mEvaluatorConfig:
    """Defaults: the published sizes for HumanML3D."""

    features: int = 263  # HumanML3D feature vector, contacts included
    movement_width: int = 512  # hidden and output width of the movement encoder
    motion_width: int = 1024  # hidden width of the motion encoder
    text_width: int = 512  # hidden width of the text encoder
    embedding_width: int = 512  # E
    word_width: int = 300  # GloVe
    pos_width: int = 15  # parts of speech, one-hot


class MovementEncoder(nn.Module):
    """Snippets of four frames -> movement vectors."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv1d(features, width, kernel_size=4, stride=2, padding=1),
            nn.Dropout(0.2),
            nn.LeakyReLU(0.2),
            nn.Conv1d(width, width, kernel_size=4, stride=2, padding=1),
            nn.Dropout(0.2),
            nn.LeakyReLU(0.2),
        )
        self.out_net = nn.Linear(width, width)

    def forward(self, features: Tensor) -> Tensor:
        """(B, F, features) -> (B, F // 4, width)."""
        return self.out_net(self.main(features.transpose(1, 2)).transpose(1, 2))


class BiGruEncoder(nn.Module):
    """Sequence -> embedding: the last states of a GRU in both directions from a learned first state."""

    def __init__(self, inputs: int, width: int, embedding_width: int) -> None:
        super().__init__()
        self.hidden = nn.Parameter(torch.randn(2, 1, width))
        self.input_emb = nn.Linear(inputs, width)
        self.gru = nn.GRU(width, width, batch_first=True, bidirectional=True)
        self.output_net = nn.Sequential(
            nn.Linear(2 * width, width), nn.LayerNorm(width), nn.LeakyReLU(0.2), nn.Linear(width, embedding_width)
        )

    def forward(self, x: Tensor, lengths: Tensor | Sequence[int]) -> Tensor:
        """x: (B, S, inputs). lengths: (B,) in 1..S, in any order. Returns (B, E)."""
        lengths = torch.as_tensor(lengths).cpu()
        if lengths.min() < 1 or lengths.max() > x.shape[1]:
            raise ValueError(
                f"lengths={lengths.tolist()} must lie in 1..{x.shape[1]}. Pass the length of each sequence."
            )
        packed = pack_padded_sequence(self.input_emb(x), lengths, batch_first=True, enforce_sorted=False)
        _, last = self.gru(packed, self.hidden.repeat(1, len(x), 1))  # (2, B, width)
        return self.output_net(torch.cat([last[0], last[1]], dim=-1))


class TextEncoder(BiGruEncoder):
    """A GRU encoder of word vectors to which `pos_emb` of the part of speech has been added."""

    def __init__(self, config: T2mEvaluatorConfig) -> None:
        super().__init__(config.word_width, config.text_width, config.embedding_width)
        self.pos_emb = nn.Linear(config.pos_width, config.word_width)


class T2mEvaluator(nn.Module):
    """The three networks together; frozen in use, so call `.eval()` and `torch.no_grad()`."""

    def __init__(self, config: T2mEvaluatorConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or T2mEvaluatorConfig()
        self.movement_encoder = MovementEncoder(config.features - CONTACTS, config.movement_width)
        self.motion_encoder = BiGruEncoder(config.movement_width, config.motion_width, config.embedding_width)
        self.text_encoder = TextEncoder(config)

    def load_published(self, checkpoint: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Loads the released dictionary of three state dictionaries, strictly; its other entries are ignored."""
        for name, network in self.named_children():
            if name not in checkpoint:
                raise ValueError(f"entry {name!r} not found in {sorted(checkpoint)}. Pass finest.tar's content.")
            network.load_state_dict(checkpoint[name], strict=True)

    def embed_motions(self, features: Tensor, lengths: Tensor | Sequence[int]) -> Tensor:
        """features: (B, F, 263) normalised with the evaluator's mean and std. lengths: (B,) frames, >= 4. -> (B, E)."""
        movements = self.movement_encoder(features[..., :-CONTACTS])  # (B, F // 4, width)
        return self.motion_encoder(movements, torch.as_tensor(lengths) // FRAMES_PER_MOVEMENT)

    def embed_texts(self, words: Tensor, parts_of_speech: Tensor, lengths: Tensor | Sequence[int]) -> Tensor:
        """words: (B, S, 300). parts_of_speech: (B, S, 15) one-hot. lengths: (B,) in 1..S. -> (B, E)."""
        return self.text_encoder(words + self.text_encoder.pos_emb(parts_of_speech), lengths)


class T2mJudge(nn.Module):
    """The evaluator with the statistics its inputs are normalised by (its own Mean and Std, not the generator's)."""

    feature_mean: Tensor  # (263,)
    feature_std: Tensor  # (263,)

    def __init__(self, config: T2mEvaluatorConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or T2mEvaluatorConfig()
        self.evaluator = T2mEvaluator(config)
        self.register_buffer("feature_mean", torch.zeros(config.features))
        self.register_buffer("feature_std", torch.ones(config.features))

    def embed_motion(self, features: Tensor, lengths: Tensor) -> Tensor:
        """features: (B, F, 263) in physical units; lengths: (B,) frames, >= 4. -> (B, E).

        As in the published evaluation, motions end at a multiple of four frames and are filled with normalised zeros
        to 196, which the convolutions see: a motion's embedding does not depend on the others of its batch.
        """
        lengths = lengths // FRAMES_PER_MOVEMENT * FRAMES_PER_MOVEMENT
        normalised = (features - self.feature_mean) / self.feature_std
        normalised = normalised * frame_mask(lengths, features.shape[1], features.device)[..., None]
        filled = torch.nn.functional.pad(normalised, (0, 0, 0, max(0, MAX_FRAMES - features.shape[1])))
        return self.evaluator.embed_motions(filled, lengths)
