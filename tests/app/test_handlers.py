"""What the page says of an error."""

from __future__ import annotations

import pytest
import torch

from app.handlers import sentence_of
from core import UnavailableError


def test_sentences_of_ours_are_shown_and_errors_of_libraries_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Prevents matrix shapes on the page, and an error of which no log tells."""
    for error in (ValueError("prompt is empty."), UnavailableError("Not ready yet."), FileNotFoundError("no base")):
        assert sentence_of(error) == str(error)
    assert not caplog.records
    with pytest.raises(RuntimeError) as caught:
        torch.zeros(2, 3) @ torch.zeros(2, 3)
    said = sentence_of(caught.value)
    assert said.startswith("Something went wrong (RuntimeError)") and "shapes" not in said
    assert caplog.records[0].exc_info and "shapes cannot be multiplied" in caplog.text
