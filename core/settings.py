"""Everything that can be set when the arena starts; `app.py` turns this class into its command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Settings:
    """Text to motion: two models side by side in 3D, and a vote on which is better."""

    host: str = "127.0.0.1"  # address to listen on; 0.0.0.0 lets other machines in
    port: int = 7860  # port of the page; 0 takes a free one
    share: bool = False  # also open a public link through gradio.live
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"  # auto takes CUDA, then Apple's MPS, then the CPU
    data_dir: Path = ROOT / "data"  # folder of the database, the motions and the exports
    checkpoints: Path = ROOT / "checkpoints"  # folder of the model versions
    database: str | None = None  # SQLAlchemy URL, such as postgresql+psycopg://user@host/arena; SQLite if not given
    body: Path | None = None  # a body in SMPL format (.npz or .pkl) instead of the default one
    baseline: str = "base"  # model version to compare against
    candidate: str = "aligned"  # model version to compare
    study: Path | None = None  # a study file (TOML, see docs/studies.md): the page shows it and nothing else

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port={self.port} is outside 0-65535. Choose a free port, such as 7860.")
        if self.data_dir.exists() and not self.data_dir.is_dir():
            raise ValueError(f"data_dir={self.data_dir} is a file. Choose a folder.")
