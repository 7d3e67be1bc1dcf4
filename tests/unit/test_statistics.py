"""Intervals and tests over speakers: analytic cases, simulations, and scipy where it does the same."""

from itertools import product

import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.stats
from hypothesis import given

from serzoo.errors import DataError
from serzoo.experiments.statistics import (
    COVERAGE,
    FEW_SPEAKERS,
    Interval,
    SpeakerCounts,
    compare,
    intervals,
    marked,
    percent,
)
from serzoo.metrics import HEADLINE, Scores


def one_class(right):
    """Counts of a task of two classes: row by row a speaker's clips, all of class 0, right or not."""
    right = np.asarray(right)
    speakers = np.repeat([f"{number:03d}" for number in range(len(right))], right.shape[1])
    return SpeakerCounts.from_predictions(speakers, np.zeros(right.size, int), 1 - right.ravel(), 2)


@st.composite
def clips(draw):
    """Speakers, targets and predictions of a few clips in three classes."""
    n = draw(st.integers(2, 40))
    indices = st.lists(st.integers(0, 2), min_size=n, max_size=n)
    speakers = draw(st.lists(st.sampled_from("abcde"), min_size=n, max_size=n))
    return np.array(speakers), np.array(draw(indices)), np.array(draw(indices))


@given(clips())
def test_scores_are_those_of_the_metrics(data):
    speakers, targets, predictions = data
    counts = SpeakerCounts.from_predictions(speakers, targets, predictions, 3)
    expected = Scores.from_predictions(targets, predictions, ["x", "y", "z"])
    for name, (score,) in counts.scores(np.ones((1, len(counts.speakers)))).items():
        assert score == pytest.approx(getattr(expected, name), abs=1e-12)


@given(clips(), st.lists(st.integers(0, 3), min_size=5, max_size=5))
def test_a_speaker_who_is_drawn_often_counts_as_often(data, draws):
    speakers, targets, predictions = data
    counts = SpeakerCounts.from_predictions(speakers, targets, predictions, 3)
    draws = np.array(draws[: len(counts.speakers)])
    times = draws[[counts.speakers.index(speaker) for speaker in speakers]]
    if not times.sum():
        return
    expected = Scores.from_predictions(np.repeat(targets, times), np.repeat(predictions, times), ["x", "y", "z"])
    for name, (score,) in counts.scores(draws[None]).items():
        assert score == pytest.approx(getattr(expected, name), abs=1e-12)


@given(clips(), st.randoms())
def test_the_order_of_clips_does_not_matter(data, random):
    order = list(range(len(data[0])))
    random.shuffle(order)
    one, other = (
        SpeakerCounts.from_predictions(*(values[which] for values in data), 3) for which in (slice(None), order)
    )
    if len(one.speakers) > 1:
        assert intervals(one, n_resamples=50) == intervals(other, n_resamples=50)


@given(clips(), st.integers(2, 4))
def test_seeds_that_agree_count_once(data, n_seeds):
    speakers, targets, predictions = (np.tile(values, n_seeds) for values in data)
    shared = SpeakerCounts.from_predictions(speakers, targets, predictions, 3, np.full(len(targets), 1 / n_seeds))
    alone = SpeakerCounts.from_predictions(*data, 3)
    assert shared.n_clips == alone.n_clips
    np.testing.assert_allclose(shared.hits, alone.hits, atol=1e-9)
    np.testing.assert_allclose(shared.predicted, alone.predicted, atol=1e-9)


def test_seeds_are_averaged():
    counts = SpeakerCounts.from_predictions(["a", "b"] * 2, [0, 1] * 2, [0, 1, 1, 1], 2, [0.5] * 4)
    found = intervals(counts)
    assert found["war"].value == 0.75  # two of two and one of two
    assert found["uar"].value == 0.75


def test_with_one_clip_per_speaker_it_is_scipys_bootstrap():
    right = np.random.default_rng(1).integers(0, 2, 200)
    own = intervals(one_class(right[:, None]), n_resamples=4000)["war"]
    theirs = scipy.stats.bootstrap(
        (right,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(2), vectorized=True
    ).confidence_interval
    assert own.value == right.mean()
    assert (own.low, own.high) == pytest.approx(tuple(theirs), abs=0.01)
    width = 2 * 1.96 * np.sqrt(right.mean() * (1 - right.mean()) / 200)
    assert own.high - own.low == pytest.approx(width, abs=0.015)


def test_clips_of_one_speaker_are_one_draw():
    right = np.repeat(np.random.default_rng(1).integers(0, 2, (100, 1)), 10, axis=1)  # all or nothing
    found = intervals(one_class(right))["war"]
    mean = right.mean()
    deviation = np.sqrt(mean * (1 - mean) / 100)  # of 100 draws, not of 1000
    assert (found.low, found.high) == pytest.approx((mean - 1.96 * deviation, mean + 1.96 * deviation), abs=0.01)


def coverage(n_speakers, beta, n_trials=1500):
    """Per cent of 95 % intervals that hold the mean of the population that speakers of 8 clips each are drawn from."""
    random, hits, mean = np.random.default_rng([1, n_speakers, *beta]), 0, beta[0] / sum(beta)
    for trial in range(n_trials):
        skill = random.beta(*beta, n_speakers)
        right = random.random((n_speakers, 8)) < skill[:, None]
        found = intervals(one_class(right), n_resamples=2000, seed=trial)["war"]
        hits += found.low <= mean <= found.high
    return 100 * hits / n_trials


@pytest.mark.slow
@pytest.mark.parametrize("n_speakers", sorted(COVERAGE))
def test_intervals_of_few_speakers_have_the_stated_coverage(n_speakers):
    assert n_speakers < FEW_SPEAKERS
    assert coverage(n_speakers, (9, 1)) == pytest.approx(COVERAGE[n_speakers], abs=3)


@pytest.mark.slow
@pytest.mark.parametrize(("n_speakers", "least"), [(4, 82), (6, 89), (12, 93), (24, 93), (FEW_SPEAKERS, 93)])
def test_intervals_of_middling_scores_cover_as_much_or_more(n_speakers, least):
    assert least <= coverage(n_speakers, (6, 4)) <= 97


def test_speakers_below_thirty_are_marked():
    assert [marked(number) for number in (2, 29, 30)] == ["2 †", "29 †", "30"]


def test_a_class_that_was_not_drawn_has_no_recall():
    counts = SpeakerCounts.from_predictions(["a", "a", "b"], [0, 1, 1], [0, 0, 1], 2)
    uar = counts.scores(np.array([[1, 1], [0, 2]]))["uar"]
    assert uar.tolist() == [0.75, 1.0]  # b has clips of class 1 alone


def test_identical_runs_do_not_differ():
    counts = one_class(np.random.default_rng(0).integers(0, 2, (6, 5)))
    found = compare(counts, counts)
    for difference in found.differences.values():
        assert (difference.value, difference.low, difference.high, difference.p) == (0, 0, 0, 1)
    assert (found.n_speakers, found.n_clips) == (6, 30)


@pytest.mark.parametrize("n_speakers", [2, 5, 13])
def test_the_smallest_p_is_that_of_all_speakers_agreeing(n_speakers):
    worse, better = one_class(np.zeros((n_speakers, 3), int)), one_class(np.ones((n_speakers, 3), int))
    found = compare(worse, better)
    assert found.exact
    assert found.differences["war"].value == 1
    assert found.differences["war"].p == found.differences["uar"].p == found.smallest_p == 2 ** (1 - n_speakers)


def test_drawn_signs_come_near_all_signs_and_never_to_zero():
    random = np.random.default_rng(4)
    first, second = (one_class(random.random((14, 10)) < rate) for rate in (0.5, 0.6))
    drawn, every = compare(first, second), compare(first, second, n_resamples=2**14)
    assert not drawn.exact
    assert every.exact
    shares = ((second.hits - first.hits).sum(axis=1) / 140).tolist()
    flipped = [abs(np.dot(shares, signs)) for signs in product((-1, 1), repeat=14)]
    expected = np.mean(np.array(flipped) >= abs(sum(shares)) - 1e-9)
    assert every.differences["war"].p == pytest.approx(expected)
    assert drawn.differences["war"].p == pytest.approx(expected, abs=0.02)
    worse, better = one_class(np.zeros((40, 2), int)), one_class(np.ones((40, 2), int))
    assert compare(worse, better).differences["war"].p == compare(worse, better).smallest_p == 1 / 10_001


def test_differences_are_paired():
    speakers = np.random.default_rng(0).integers(0, 2, (40, 1))
    first = one_class(np.repeat(speakers, 4, axis=1))  # speakers differ much,
    second = one_class(np.hstack([speakers, speakers, speakers, 1 - speakers]))  # the runs by one clip of each
    found, alone = compare(first, second), intervals(first)
    assert found.differences["war"].high - found.differences["war"].low < alone["war"].high - alone["war"].low
    back = compare(second, first).differences["war"]
    assert back.value == pytest.approx(-found.differences["war"].value)
    assert back.p == found.differences["war"].p


def test_uar_of_a_difference_weighs_classes_alike():
    speakers, targets = ["a", "b", "b", "b"], [0, 1, 1, 1]
    first = SpeakerCounts.from_predictions(speakers, targets, [1, 1, 1, 1], 2)
    second = SpeakerCounts.from_predictions(speakers, targets, [0, 1, 1, 1], 2)
    found = compare(first, second).differences
    assert found["uar"].value == pytest.approx(0.5)
    assert found["war"].value == pytest.approx(0.25)


def test_the_same_seed_gives_the_same_interval():
    counts = one_class(np.random.default_rng(0).integers(0, 2, (20, 7)))
    assert intervals(counts) == intervals(counts)
    assert intervals(counts, n_resamples=20) != intervals(counts, n_resamples=20, seed=1)


def test_bad_input_is_one_line():
    counts = one_class(np.ones((3, 2), int))
    with pytest.raises(DataError, match="1 test speaker; an interval over speakers needs at least 2"):
        intervals(one_class(np.ones((1, 2), int)))
    with pytest.raises(DataError, match="different test speakers or clips"):
        compare(counts, one_class(np.ones((3, 4), int)))
    with pytest.raises(DataError, match="different test speakers or clips"):
        compare(counts, one_class(np.ones((4, 2), int)))
    with pytest.raises(DataError, match="1 of 2 clips have no known speaker"):
        SpeakerCounts.from_predictions(["a", ""], [0, 0], [0, 0], 2)


def test_numbers_are_shown_in_percent():
    assert str(Interval(0.88622, 0.8521, 0.92465)) == "88.62 [85.21, 92.47]"
    assert percent(-1e-17, "+") == "+0.00"
    assert percent(0.318750000000001) == percent(0.31875)
    assert list(intervals(one_class(np.ones((2, 2), int)))) == list(HEADLINE)
