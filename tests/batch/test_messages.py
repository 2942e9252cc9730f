"""What processes send each other comes back as it was, and nothing else does."""

from __future__ import annotations

import json
import os
import pickle

import pytest
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st

from clipcount_cli.batch.messages import (
    decode_jobs,
    decode_outcome,
    encode_jobs,
    encode_outcome,
)
from clipcount_cli.batch.pictures import Made, Thumbnail
from clipcount_cli.batch.pipeline import Outcome
from clipcount_cli.batch.plan import Job
from clipcount_cli.batch.processes import Team
from clipcount_cli.errors import ClipCountError

paths = st.binary(min_size=1, max_size=12).map(os.fsdecode)
prompts = st.lists(st.text(max_size=8), min_size=1, max_size=3).map(tuple)
jobs = st.builds(Job, paths, paths, prompts, st.text(max_size=8), prompts)
thumbnails = st.none() | st.builds(Thumbnail, st.binary(max_size=9), st.binary(max_size=9))
finite = st.floats(allow_nan=False, allow_infinity=False)
regions = st.lists(st.tuples(st.text(max_size=4), finite), max_size=3).map(tuple)
made = st.none() | st.builds(Made, thumbnails, st.none() | regions)
counted = st.builds(
    Outcome,
    job=jobs,
    counts=st.lists(finite, max_size=3).map(tuple),
    size=st.tuples(st.integers(0, 10**5), st.integers(0, 10**5)),
    notes=prompts,
    fault=paths,
    extras=st.lists(made, max_size=3).map(tuple),
)


@settings(deadline=None)
@given(st.lists(jobs, max_size=4))
def test_jobs_come_back_as_they_were(sent):
    assert decode_jobs(encode_jobs(sent)) == sent


@settings(deadline=None)
@given(counted)
def test_outcomes_come_back_bit_for_bit(sent):
    assert decode_outcome(encode_outcome(sent)) == sent


class Hostile:
    """Runs when it is unpickled."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return os.mkdir, (str(self.place),)


@pytest.mark.parametrize(
    "forged",
    [
        b"",
        b"{}",
        b"[1]",
        b"nonsense",
        b'[["a", "b", ["c"], 1, []]]',
        json.dumps({"job": ["a", "b", ["c"], "", []], "counts": "x"}).encode(),
    ],
)
def test_what_is_no_message_is_refused_in_words(forged):
    for decode in (decode_jobs, decode_outcome):
        with pytest.raises(ClipCountError, match="does not belong to this run"):
            decode(forged)


def test_a_pickle_in_the_store_is_not_run(tmp_path):
    hostile = Hostile(tmp_path / "made")
    store = dist.HashStore()
    team = Team(store, 0, 2)
    store.set("jobs/0", pickle.dumps(hostile))
    store.set("outcome/0", pickle.dumps(hostile))

    with pytest.raises(ClipCountError):
        team._job(0)
    with pytest.raises(ClipCountError):
        team._fetch({}, 0)

    assert not (tmp_path / "made").exists()
