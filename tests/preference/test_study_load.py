"""A small study under load, with the server killed in the middle, on either database: benchmarks/study_load.py."""

from __future__ import annotations

import os

import pytest

from benchmarks.study_load import StudyLoad, markdown, run
from core.preference.studies import Study

pytestmark = [
    pytest.mark.slow,
    pytest.mark.e2e,
    pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="memory and processor time are read from /proc"),
]


def test_killed_in_the_middle_no_vote_is_lost_or_double(database: str) -> None:
    """Prevents lost and double votes, people who get stuck and pairs judged too often after kill -9 and a restart."""
    report = run(StudyLoad(smoke=True, kills=1, database=database))
    assert report["faults"] == [], report
    assert report["votes"] == 48 and report["kills"] == 1
    assert report["kinds"] == {"comparison": 40, "repeat": 4, "check": 4} and report["left_share"] == 0.5
    assert report["seconds"]["p95"] > 0 and "| faults | none |" in markdown(report)


def test_study_of_the_benchmark_is_as_announced() -> None:
    """Prevents a load test of another size than it says."""
    study = StudyLoad().study()
    assert len(study.prompts) == 600 and study.people_needed() == 20
    assert 20 * len(study.schedule("anybody")) == 2000 and isinstance(study, Study)
    with pytest.raises(ValueError, match="don't divide"):
        StudyLoad(annotators=7).study()
