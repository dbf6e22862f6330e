"""`python -m core evaluate --evaluator t2m-evaluator`: the table of the field's papers, by the published evaluator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from core.commands.console import ProgressLine
from core.data.captioned import is_prepared, load_motions, source_of
from core.data.conversion import CONVERTED
from core.diffusion.protocol import MotionDiffusion
from core.diffusion.rollout import sample_motions
from core.metrics.official import Evaluator, Generate, Motions, evaluate_officially
from core.metrics.official_words import WordVectors, load_word_vectors
from core.metrics.report import EvaluationReport
from core.models.checkpoint import load_diffusion, load_module
from core.models.tm2t import T2mJudge
from core.motion.skeleton import MIN_FRAMES, N_FEATURES
from core.text.encoder import TextEncoder, load_text_encoder
from core.train.loop import pick_device
from core.train.tasks import batches_in_order

if TYPE_CHECKING:
    from core.commands.evaluate import Evaluate


def run(config: Evaluate, split: str) -> EvaluationReport:
    """Needs a prepared archive of tagged captions, an imported evaluator and its word vectors; raises naming each."""
    if not is_prepared(config.archive):
        raise ValueError(
            f"{config.archive} has no captions of its own; the published evaluator reads HumanML3D or KIT-ML. "
            "Make their archive with `python -m core prepare humanml3d FOLDER`."
        )
    if source_of(config.archive).endswith(CONVERTED):
        raise ValueError(f"{config.archive} is in our features. Prepare it with `--convention humanml3d` to compare.")
    device = pick_device(config.device)
    folder = config.checkpoints / config.evaluator
    judge = load_module(folder, device)
    if not isinstance(judge, T2mJudge):
        raise ValueError(f"{folder} holds a {type(judge).__name__}, no evaluator. See `import-weights t2m-evaluator`.")
    motions = load_motions(config.archive, split)
    if (width := motions[0].features.shape[1]) != judge.config.features:
        raise ValueError(f"{folder} reads {judge.config.features} features, {config.archive} has {width}.")
    if config.versions and width != N_FEATURES:
        raise ValueError(
            f"our models make {N_FEATURES} features, not {width}. Give --versions without names: real motions."
        )
    encoder = load_text_encoder("minilm", device)
    models = {v: _generator(load_diffusion(config.checkpoints, device, v), encoder, config) for v in config.versions}
    evaluator = evaluator_functions(judge, load_word_vectors(config.words))
    return evaluate_officially(models, evaluator, motions, config.official, ProgressLine("evaluating"))


def _generator(model: MotionDiffusion, encoder: TextEncoder, config: Evaluate) -> Generate:
    """Models make 2 s or more; the few motions that are cut to less, as published, are cut off afterwards."""

    def generate(captions: Sequence[str], frames: Sequence[int], seed: int) -> Motions:
        seeds, asked = [seed * 1_000_003 + i for i in range(len(captions))], [max(n, MIN_FRAMES) for n in frames]
        made = sample_motions(model, encoder, captions, asked, seeds, config.sampler, batch_size=config.batch_size)
        return [motion[:n] for motion, n in zip(made, frames, strict=True)]

    return generate


def evaluator_functions(judge: T2mJudge, words: WordVectors) -> Evaluator:
    """The published networks as functions of plain motions and tagged captions."""
    device = judge.feature_mean.device

    def in_chunks(count: int, embed: Callable[[np.ndarray], torch.Tensor]) -> np.ndarray:
        with torch.no_grad():
            return torch.cat([embed(rows) for rows in batches_in_order(count, 64)]).cpu().numpy()

    def motion(motions: Motions) -> np.ndarray:
        def embed(rows: np.ndarray) -> torch.Tensor:
            picked = [torch.from_numpy(motions[i]) for i in rows]
            padded = torch.nn.utils.rnn.pad_sequence(picked, batch_first=True).to(device)
            return judge.embed_motion(padded, torch.tensor([len(p) for p in picked], device=device))

        return in_chunks(len(motions), embed)

    def text(tokens: Sequence[str]) -> np.ndarray:
        arrays = [torch.from_numpy(array).to(device) for array in words.encode(tokens)]
        return in_chunks(len(tokens), lambda rows: judge.evaluator.embed_texts(*(array[rows] for array in arrays)))

    return Evaluator(motion, text)
