"""The facade for the page, the command line and notebooks: generate a pair, vote, make again, export.

`Engine(settings)` opens the store and nothing else. `start_loading()` brings the models in, in the background;
`status()` says how far it is. All methods are thread-safe; the models compute one thing at a time.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import core
from core.learning.versions import VOTES_BUILD_ON, VersionStore
from core.motion.skeleton import FPS, MIN_FRAMES
from core.preference.motions import features_sha256
from core.preference.sides import SideCoin
from core.preference.store import PreferenceStore
from core.preference.types import Pair, Take, Vote, new_pair_id, now
from core.request import MAX_SEED, Request, random_seed
from core.settings import Settings

if TYPE_CHECKING:
    from torch import nn

    from core.body.smpl_files import Body
    from core.data.familiarity import FamiliarityIndex
    from core.learning.telling import TellingPairs
    from core.text.encoder import TextEncoder

log = logging.getLogger(__name__)

Progress = Callable[[float, str], object]  # fraction done in 0-1, what is being done
_MAX_LOADED = 4  # model versions in memory
_CANDIDATES = 3  # takes by each version that the most telling two are chosen from
_WARM_UP_PROMPT = "a person walks forward"


@dataclass(frozen=True)
class Status:
    """Where loading stands; `error` is a sentence for the user."""

    ready: bool
    message: str
    error: str | None = None


@dataclass(frozen=True)
class Prepared:
    """A pair that is made and not stored."""

    pair: Pair
    motions: tuple[np.ndarray, ...]  # (F, 263) each


@dataclass(frozen=True)
class _Models:
    """What generating needs, loaded once."""

    diffusion: dict[str, Any]  # version -> MotionDiffusion
    weights_sha256: dict[str, str]  # version -> hash of its weights
    text_encoder: TextEncoder
    familiarity: FamiliarityIndex
    device: str


class Engine:
    """Model versions of which two are compared, one store, one body."""

    def __init__(self, settings: Settings) -> None:
        """Open the store under settings.data_dir. ValueError if its database can't be used."""
        self.settings = settings
        self.store = PreferenceStore(settings.data_dir, settings.database)
        self.versions = VersionStore(settings.checkpoints, settings.data_dir, (settings.baseline, settings.candidate))
        self.vote_listeners: list[Callable[[Vote], object]] = []  # called after each vote; what they raise is logged
        self._status = Status(False, "Waiting to load the models")
        self._settled = threading.Event()  # ready, or failed for good
        self._inference = threading.Lock()
        self._sides = SideCoin()
        self._loading: threading.Thread | None = None
        self._models: _Models | None = None
        self._telling: TellingPairs | None = None

    # Loading

    def start_loading(self) -> None:
        """Load the models in a background thread; a second call does nothing."""
        if self._loading is None:
            self._loading = threading.Thread(target=self._load, name="load-models", daemon=True)
            self._loading.start()

    def status(self) -> Status:
        return self._status

    def wait_until_ready(self, timeout_s: float | None = None) -> Status:
        """Block until loading has succeeded or failed, at most timeout_s; returns the status then."""
        self._settled.wait(timeout_s)
        return self._status

    def _load(self) -> None:
        try:
            self._load_models()
            self._status = Status(True, "Ready")
        except (FileNotFoundError, ValueError) as error:
            log.error("%s", error)
            self._status = Status(False, "The models are not loaded", str(error))
        except Exception as error:
            log.exception("Loading failed")
            sentence = f"Loading failed: {type(error).__name__}: {error}. The log has the details."
            self._status = Status(False, "The models are not loaded", sentence)
        finally:
            self._settled.set()

    def _load_models(self) -> None:
        versions = dict.fromkeys(self.versions.sides())
        self._say("Loading PyTorch")
        from core.data.familiarity import FamiliarityIndex
        from core.text.encoder import load_text_encoder
        from core.train.loop import pick_device

        device = pick_device(self.settings.device)
        diffusion = {}
        for version in versions:
            self._say(f"Loading the model '{version}'")
            diffusion[version] = self.versions.load(version, device)
        weights = {version: weights_sha256(model) for version, model in diffusion.items()}
        self._say("Loading the text encoder")
        encoder = load_text_encoder(device=device)
        models = _Models(diffusion, weights, encoder, FamiliarityIndex.load(), device)
        self._say("Loading the body")
        self.body()
        self._say("Warming up")
        self._sample(models, [(version, 0) for version in versions], Request(_WARM_UP_PROMPT, steps=2), MIN_FRAMES)
        self._models = models

    def _say(self, message: str) -> None:
        log.info("%s ...", message)
        self._status = Status(False, f"{message} ...")

    def _require_models(self) -> _Models:
        if self._models is None:
            sentence = f"Not ready yet: {self._status.message} Try again in a moment."
            raise core.UnavailableError(self._status.error or sentence)
        return self._models

    # Prompts

    def suggest_duration_s(self, prompt: str) -> float:
        """A length in seconds that fits what the prompt describes."""
        from core.text.duration import suggest_duration_s

        return suggest_duration_s(prompt)

    def surprise(self) -> str:
        """A random prompt of the kind the models were trained on."""
        from core.data.captions import surprise

        return surprise(random_seed())

    def familiarity_notice(self, prompt: str) -> str:
        """A sentence if the prompt is far from what the models have learnt; empty if it is not."""
        models = self._require_models()
        return models.familiarity.judge(prompt, models.text_encoder).sentence

    # Pairs and votes

    def generate(self, request: Request, progress: Progress | None = None) -> Pair:
        """Make two takes from the same noise, one by each version, and store them before returning.

        With request.telling, of several takes by each version those two whose comparison tells most about the taste.
        The sides are drawn, see core.preference.sides. UnavailableError while the models are not ready.
        `progress` may raise to cancel; nothing is stored then.
        """
        return self.keep(self.prepare(request, progress))

    def prepare(self, request: Request, progress: Progress | None = None) -> Prepared:
        """As generate, but nothing is stored until `keep`."""
        models, versions = self._require_models(), self.versions.sides(request.annotator)
        seed, frames = self._settle(request)
        seeds = [(seed + i) % (MAX_SEED + 1) for i in range(_CANDIDATES if request.telling else 1)]
        wanted = [(version, seed) for version in versions for seed in seeds]
        with self._inference:
            self._bring_in(models, versions)
            motions = self._sample(models, wanted, request, frames, progress)
        shown = self._most_telling(models, request, motions) if request.telling else (0, 1)
        takes = [self._take(models, *wanted[i], motions[i], request) for i in shown]
        if not self._sides.first_goes_left(*versions):
            takes.reverse()
        return Prepared(Pair(new_pair_id(), takes[0], takes[1], now()), tuple(motions[i] for i in shown))

    def _most_telling(self, models: _Models, request: Request, motions: list[np.ndarray]) -> tuple[int, int]:
        """Which of the motions, half of them by either version, to show."""
        from core.learning.telling import TellingPairs

        with self._inference:
            if self._telling is None:
                self._telling = TellingPairs(self.store, self.settings.checkpoints, VOTES_BUILD_ON, models.device)
            half, whose = len(motions) // 2, request.annotator if self.versions.choices().apart else None
            chosen = self._telling.choose(
                request.prompt.strip(), motions[:half], motions[half:], models.text_encoder, whose
            )
        return chosen[0], half + chosen[1]

    def keep(self, prepared: Prepared) -> Pair:
        """Store what `prepare` made, motions first, and return its pair."""
        for features in prepared.motions:
            self.store.save_motion(features)
        self.store.add_pair(prepared.pair)
        return prepared.pair

    def take(self, request: Request, version: str) -> Take:
        """One take by one version, its motion stored; no pair holds it yet. Errors as generate's."""
        models = self._require_models()
        seed, frames = self._settle(request)
        with self._inference:
            self._bring_in(models, (version,))
            (features,) = self._sample(models, [(version, seed)], request, frames)
        self.store.save_motion(features)
        return self._take(models, version, seed, features, request)

    def _settle(self, request: Request) -> tuple[int, int]:
        """Seed and number of frames: the request's own, or drawn and suggested."""
        seed = random_seed() if request.seed is None else request.seed
        return seed, round((request.duration_s or self.suggest_duration_s(request.prompt)) * FPS)

    def vote(self, pair_id: str, verdict: str, annotator: str, response_s: float | None = None) -> Vote:
        """Record a vote; returned only when it is safely on the disk. It names the versions, so it reveals them."""
        vote = self.store.record_vote(pair_id, verdict, annotator, core.__version__, response_s)
        for listener in self.vote_listeners:
            try:
                listener(vote)
            except Exception:
                log.exception("The vote is stored; what should follow it failed")
        return vote

    def undo_vote(self, pair_id: str, annotator: str) -> Vote:
        """Take the annotator's vote on this pair back; the events of both stay recorded."""
        return self.store.undo_vote(pair_id, annotator)

    def regenerate(self, take: Take) -> np.ndarray:
        """Make the take's motion again from what is recorded: (F, 263) float32.

        ValueError if the version it was made by is not the one loaded.
        """
        models = self._require_models()
        if take.model_version in self.versions.names():
            with self._inference:
                self._bring_in(models, (take.model_version,))
        if models.weights_sha256.get(take.model_version) != take.weights_sha256:
            raise ValueError(
                f"The take was made by '{take.model_version}', weights {take.weights_sha256}, which are not loaded. "
                "Start with --baseline or --candidate set to that version and its own files."
            )
        request = Request(take.prompt, take.duration_s, take.seed, take.steps, take.guidance_scale, take.solver)
        with self._inference:
            return self._sample(models, [(take.model_version, take.seed)], request, take.frames)[0]

    def _bring_in(self, models: _Models, versions: tuple[str, ...]) -> None:
        """Load versions that are not loaded yet; the longest unused ones make room. Call it inside the lock."""
        for version in versions:
            model = models.diffusion.pop(version, None) or self.versions.load(version, models.device)
            models.diffusion[version] = model  # now the last used
            if version not in models.weights_sha256:
                models.weights_sha256[version] = weights_sha256(model)
        for version in list(models.diffusion)[:-_MAX_LOADED]:
            del models.diffusion[version]

    def _sample(
        self,
        models: _Models,
        wanted: Sequence[tuple[str, int]],
        request: Request,
        frames: int,
        progress: Progress | None = None,
    ) -> list[np.ndarray]:
        """The motion, (F, 263) float32, that each (version, seed) makes of the request."""
        from core.diffusion.takes import Wanted, sample_each

        prompt = request.prompt.strip()
        makes = [Wanted(models.diffusion[version], prompt, frames, seed) for version, seed in wanted]
        return sample_each(makes, models.text_encoder, request.sampler(), progress and _told(progress, len(makes)))

    def _take(self, models: _Models, version: str, seed: int, features: np.ndarray, request: Request) -> Take:
        """How features (F, 263) were made."""
        import torch

        encoder = getattr(models.diffusion[version], "text_encoder", None) or models.text_encoder
        return Take(
            prompt=request.prompt.strip(),
            seed=seed,
            frames=len(features),
            steps=request.steps,
            guidance_scale=float(request.guidance_scale),
            solver=request.solver,
            model_version=version,
            weights_sha256=models.weights_sha256[version],
            text_encoder=encoder.name,
            device=models.device,
            code_version=core.__version__,
            torch_version=torch.__version__,
            motion_sha256=features_sha256(features),
        )

    # Bodies and files

    def body(self) -> Body:
        """The body that all motions are shown on; core.body keeps it after the first call."""
        from core.body.smpl_files import load_body

        return load_body(self.settings.body)

    def poses(self, take: Take) -> tuple[np.ndarray, np.ndarray]:
        """(F, 24, 3, 3) local joint rotations and (F, 3) pelvis positions in metres, for the player and files."""
        from core.body.ik import pose_from_features

        return pose_from_features(self.store.load_motion(take), self.body())

    def export(self, pair_id: str, side: str, kind: str, progress: Progress | None = None) -> Path:
        """Write the motion on one side, or for mp4 both, and return the file; see core.exports."""
        from core.exports import export_pair

        return export_pair(self, self.store.pair(pair_id), side, kind, progress)


def weights_sha256(model: nn.Module) -> str:
    """First 16 hex digits of the hash of all weights: tells a re-trained version from the old one of the same name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _told(progress: Progress, takes: int) -> Callable[[int, int, dict], None]:
    """The sampler's callback that tells the progress of all takes as one, from 0 to 1."""

    def callback(step: int, total: int, _info: dict) -> None:
        progress(step / total, f"Step {-(-step // takes)} of {total // takes}")

    return callback
