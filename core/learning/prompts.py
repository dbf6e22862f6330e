"""What a model is aligned on: prompts that people voted on and the example prompts, at the lengths they describe."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from core.align.finetune import AlignBatch
from core.data.captions import surprise
from core.motion.skeleton import FPS
from core.settings import ROOT
from core.text.duration import suggest_duration_s
from core.text.encoder import TextEncoder

EXAMPLES = ROOT / "assets" / "prompts.json"
_WINDOW = 2  # a batch is drawn from this many times its size of prompts of similar length: little padding
_HELD_OUT_SEED = 7_000_000


class PromptBatches:
    """Update -> its prompts, a pure function of (seed, update). Prompts are encoded once."""

    def __init__(
        self,
        prompts: list[str],
        encoder: TextEncoder,
        size: int,
        seed: int,
        device: str,
        seen_by: TextEncoder | None = None,
    ) -> None:
        """prompts: distinct, at least one. A batch repeats prompts where there are fewer than `size`.

        seen_by: the reward's text encoder, where it isn't the model's.
        """
        lengths = np.array([suggested_frames(prompt) for prompt in prompts])
        order = np.argsort(lengths, kind="stable")
        self.lengths = torch.from_numpy(lengths[order]).to(device)
        ordered = [prompts[i] for i in order]
        self.text = encoder.encode(ordered).to(device)
        self.reward_text = seen_by and seen_by.encode(ordered).to(device)
        self.size, self.seed = size, seed

    def __call__(self, update: int) -> AlignBatch:
        rng = np.random.default_rng((self.seed, update))
        spread = min(len(self.lengths), _WINDOW * self.size)
        start = rng.integers(0, len(self.lengths) - spread + 1)
        rows = start + rng.choice(spread, self.size, replace=spread < self.size)
        chosen = torch.from_numpy(rows)
        rewarded = self.reward_text and self.reward_text.select(chosen)
        return AlignBatch(self.text.select(chosen), self.lengths[rows], reward_text=rewarded)


def training_prompts(voted: Iterable[str], examples: Path = EXAMPLES) -> list[str]:
    """The distinct prompts voted on, then the example prompts; only the former where there is no such file."""
    known = json.loads(examples.read_text(encoding="utf-8")) if examples.exists() else []
    return list(dict.fromkeys((*voted, *known)))


def held_out_batch(
    count: int, excluded: list[str], encoder: TextEncoder, device: str, seen_by: TextEncoder | None = None
) -> AlignBatch | None:
    """`count` prompts of the kind the models know that are not trained on; None where count is 0."""
    if count == 0:
        return None
    drawn = dict.fromkeys(surprise(_HELD_OUT_SEED + i) for i in range(4 * count))
    prompts = [prompt for prompt in drawn if prompt not in set(excluded)][:count]
    lengths = torch.tensor([suggested_frames(prompt) for prompt in prompts], device=device)
    rewarded = seen_by and seen_by.encode(prompts).to(device)
    return AlignBatch(encoder.encode(prompts).to(device), lengths, reward_text=rewarded)


def suggested_frames(prompt: str) -> int:
    """Length in frames that fits what the prompt describes."""
    return round(suggest_duration_s(prompt) * FPS)
