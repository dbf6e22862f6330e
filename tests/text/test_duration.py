"""Automatic clip length from the text."""

from __future__ import annotations

import pytest

from core.text.duration import MAX_DURATION_S, MIN_DURATION_S, suggest_duration_s


def test_a_sequence_lasts_longer_than_its_parts():
    """Without this, "walks, then waves" would be cut before the wave."""
    walk, wave = suggest_duration_s("a person walks"), suggest_duration_s("a person waves with the right hand")
    assert suggest_duration_s("a person walks, then waves with the right hand") == pytest.approx(walk + wave)
    assert suggest_duration_s("after walking, a person waves") == pytest.approx(walk + wave)
    assert suggest_duration_s("a person walks while waving") == max(walk, wave)


def test_tempo_words_change_the_length():
    assert (
        suggest_duration_s("a person quickly walks")
        < suggest_duration_s("a person walks")
        < suggest_duration_s("a person slowly walks")
    )


@pytest.mark.parametrize("text", ["", "???", "swim", "日本語", ". . .", "then then", "walk " * 2000, "a\x00b"])
def test_any_text_gets_a_length_in_range(text):
    assert MIN_DURATION_S <= suggest_duration_s(text) <= MAX_DURATION_S
