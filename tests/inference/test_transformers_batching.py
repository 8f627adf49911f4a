from __future__ import annotations

import threading
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

for package in ("torch", "transformers", "huggingface_hub"):
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed", allow_module_level=True)

from checkpoints import declare_torchvision_operators  # noqa: E402

declare_torchvision_operators()

import torch  # noqa: E402

from action100m.inference import Clip, Message, Request, Sampling, Text  # noqa: E402
from action100m.inference.transformers.batching import (  # noqa: E402
    Job,
    JobQueue,
    kind_of,
    next_batch,
)
from action100m.inference.transformers.generation import Draw  # noqa: E402


def request(name: str, letters: int = 10, frames: int = 0, max_tokens: int = 64) -> Request:
    shown = [np.zeros((4, 4, 3), np.uint8)] * frames
    clip = (Clip(shown, list(range(frames))),) if frames else ()
    parts = (*clip, Text("a" * letters))
    return Request(name, (Message("user", parts),), Sampling(max_tokens=max_tokens))


requests = st.builds(
    request,
    st.uuids().map(str),
    st.sampled_from([10, 50, 3000, 9000]),
    st.sampled_from([0, 1, 8]),
    st.sampled_from([64, 90, 1024]),
)


@given(st.lists(requests, max_size=30), st.lists(requests, max_size=10), st.integers(1, 8))
def test_a_batch_has_one_kind_and_starts_with_the_first_job(
    asked: list[Request], later: list[Request], size: int
) -> None:
    jobs = [Job(one) for one in asked]
    batch = next_batch(jobs, size)
    assert len({job.kind for job in batch}) <= 1
    assert batch[:1] == jobs[:1]
    similar = [job for job in jobs if job.kind == jobs[0].kind]
    assert batch == similar[:size]
    grown = next_batch([*jobs, *(Job(one) for one in later)], size)
    assert not jobs or grown[: len(batch)] == batch  # no prepared job is displaced


def test_only_similar_requests_share_a_batch() -> None:
    plain = kind_of(request("a"))
    assert kind_of(request("b", letters=60)) == plain
    assert kind_of(request("c", letters=3000)) != plain
    assert kind_of(request("d", frames=3)) != plain
    assert kind_of(request("e", max_tokens=1024)) != plain


@given(st.lists(requests, max_size=20), st.integers(1, 4), st.sets(st.integers(0, 19)))
def test_each_job_is_taken_once(asked: list[Request], size: int, cancelled: set[int]) -> None:
    queue = JobQueue(size)
    jobs = [Job(one) for one in asked]
    for number, job in enumerate(jobs):
        assert queue.put(job)
        if number in cancelled:
            assert job.future.cancel()
    kept = [job for number, job in enumerate(jobs) if number not in cancelled]
    taken: list[Job] = []

    def prepare() -> None:
        while (job := queue.to_prepare()) is not None:
            assert (
                sum(other.prepared is not None for other in jobs if other not in taken) < 3 * size
            )
            queue.prepared(job, job.request.id)

    thread = threading.Thread(target=prepare)
    thread.start()
    while len(taken) < len(kept):
        batch = queue.take()
        assert 1 <= len(batch) <= size
        assert all(job.prepared == job.request.id for job in batch)
        taken += batch
    assert queue.close() == []
    thread.join()
    assert set(taken) == set(kept)
    assert not queue.put(Job(request("late")))
    assert queue.take() == []


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_are_drawn_with_the_probability_of_their_scores(temperature: float) -> None:
    scores = torch.tensor([0.0, 2.0, -torch.inf, 1.0, -1.0])
    rows = 4000
    draw = Draw(
        [Sampling(temperature=temperature, seed=seed) for seed in range(rows)],
        [1] * rows,
        7,
        torch.device("cpu"),
    )
    left = draw(torch.zeros((rows, 7), dtype=torch.long), scores.expand(rows, -1).clone())
    assert (torch.isfinite(left).sum(1) == 1).all()
    shares = torch.bincount(left.argmax(1), minlength=5) / rows
    truth = torch.softmax(scores / temperature, 0)
    deviation = torch.sqrt(truth * (1 - truth) / rows)
    assert ((shares - truth).abs() <= 4 * deviation).all()


def test_without_temperature_scores_are_unchanged() -> None:
    draw = Draw([Sampling(), Sampling(temperature=1.0)], [5, 5], 2, torch.device("cpu"))
    scores = torch.tensor([[0.1, 0.3, 0.2], [0.1, 0.3, 0.2]])
    left = draw(torch.zeros((2, 4), dtype=torch.long), scores.clone())
    assert torch.equal(left[0], scores[0])
    assert torch.isfinite(left[1]).sum() == 1
