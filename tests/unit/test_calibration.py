"""Temperatures, calibration errors and thresholds, in cases whose answers are known."""

import numpy as np
import pytest

from serzoo.errors import ConfigError, DataError
from serzoo.experiments.calibration import MAJORITY, calibrate, expected_calibration_error, fit_temperature
from serzoo.layers.temperature import FLOOR, at_temperature

N = 20_000


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def judged(probabilities, targets, threshold=MAJORITY):
    """Calibrate on these predictions as two folds that are alike, each of recordings of its own."""
    twice = np.arange(2 * len(targets))
    return calibrate(
        np.concatenate([probabilities] * 2), np.concatenate([targets] * 2), twice, twice // len(targets), threshold
    )


def drawn(probabilities, seed=1):
    """Draw a class from each row."""
    random = np.random.default_rng(seed).random((len(probabilities), 1))
    return (probabilities.cumsum(axis=1) < random).sum(axis=1).clip(max=probabilities.shape[1] - 1)


@pytest.fixture(scope="module")
def truth():
    """Probabilities of eight classes that tell the truth about what is drawn."""
    return softmax(np.random.default_rng(0).normal(0, 2, (N, 8)))


def test_what_is_calibrated_stays(truth):
    targets = drawn(truth)
    assert fit_temperature(truth, targets) == pytest.approx(1, abs=0.03)
    assert expected_calibration_error(truth, targets) < 0.01


@pytest.mark.parametrize("temperature", [0.5, 1.7, 3.0])
def test_a_known_temperature_is_found(truth, temperature):
    targets = drawn(truth)
    sure = softmax(np.log(truth) * temperature)  # by as much too sure, or not sure enough
    found = judged(sure, targets)
    assert found.temperature == pytest.approx(temperature, rel=0.03)
    assert found.error_after < 0.02 < found.error_before
    rows = sure.min(axis=1) > FLOOR
    assert rows.mean() > 0.3
    np.testing.assert_allclose(np.asarray(at_temperature(sure, temperature))[rows], truth[rows], atol=1e-6)


def test_the_likelihood_is_largest_at_the_temperature(truth):
    targets, sure = drawn(truth), softmax(np.log(truth) * 2)
    best = fit_temperature(sure, targets)

    def loss(temperature):
        return -np.log(np.asarray(at_temperature(sure, temperature))[np.arange(N), targets]).mean()

    assert loss(best) < min(loss(best * 0.97), loss(best * 1.03))


def test_two_classes_by_hand():
    # always 9 to 1 sure and right three times of four: at the best temperature it is 3 to 1 sure
    probabilities, targets = np.tile([0.9, 0.1], (4, 1)), np.array([0, 0, 0, 1])
    assert fit_temperature(probabilities, targets) == pytest.approx(np.log(9) / np.log(3), rel=1e-3)
    found = judged(probabilities, targets)
    assert found.error_before == pytest.approx(0.15)
    assert found.error_after == pytest.approx(0, abs=1e-3)


def test_an_error_by_hand():
    probabilities = np.array([[0.95, 0.05], [0.85, 0.15], [0.3, 0.7], [0.65, 0.35]])
    targets = np.array([0, 1, 1, 0])
    # bins of a tenth, one prediction in each: |1 - 0.95| + |0 - 0.85| + |1 - 0.7| + |1 - 0.65|
    assert expected_calibration_error(probabilities, targets, 10) == pytest.approx(1.55 / 4)
    # two bins: all four lie in the upper one, three of them right
    assert expected_calibration_error(probabilities, targets, 2) == pytest.approx(abs(3 - 3.15) / 4)


def test_confidences_at_the_ends_have_a_bin():
    assert expected_calibration_error(np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([0, 0])) == pytest.approx(0.25)


def test_probabilities_that_are_always_right_get_the_smallest_temperature():
    assert 0.05 <= fit_temperature(np.tile([0.9, 0.1], (5, 1)), np.zeros(5, int)) < 0.07


def test_the_threshold_decides_on_coverage_and_accuracy():
    confidences = np.array([0.9, 0.9, 0.6, 0.6, 0.4])
    rest = (1 - confidences) / 2
    probabilities = np.stack([confidences, rest, rest], axis=1)
    targets = np.array([0, 0, 0, 1, 1])
    for threshold, coverage, accuracy in ((0.0, 1.0, 0.6), (0.75, 0.4, 1.0), (1.0, 0.0, 0.0)):
        found = judged(probabilities, targets, threshold)
        at = np.asarray(at_temperature(probabilities, found.temperature)).max(axis=1)
        answered = at >= threshold
        assert found.coverage == pytest.approx(answered.mean())
        assert (found.n, found.threshold) == (10, threshold)
        if threshold in (0.0, 1.0):
            assert (found.coverage, found.accuracy) == pytest.approx((coverage, accuracy))
    assert judged(probabilities, targets).threshold == MAJORITY


def test_an_answer_is_right_as_often_as_it_is_sure(truth):
    found = judged(softmax(np.log(truth) * 2), drawn(truth))
    answered = truth.max(axis=1) >= MAJORITY
    assert found.coverage == pytest.approx(answered.mean(), abs=0.02)
    assert found.accuracy == pytest.approx(truth.max(axis=1)[answered].mean(), abs=0.02)
    assert found.accuracy > MAJORITY


def test_the_order_of_classes_stays_and_nothing_is_infinite():
    probabilities = np.array([[1.0, 0.0, 0.0], [0.2, 0.5, 0.3]], np.float32)
    for temperature in (0.1, 1.0, 10.0):
        found = np.asarray(at_temperature(probabilities, temperature))
        assert np.isfinite(found).all()
        np.testing.assert_array_equal(found.argmax(axis=1), [0, 1])
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    assert found[0, 1] == pytest.approx(FLOOR**0.1 / (1 + 2 * FLOOR**0.1), rel=1e-4)


@pytest.mark.parametrize(
    ("probabilities", "targets", "message"),
    [
        (np.zeros((0, 2)), np.zeros(0, int), r"shape \(0, 2\)"),
        (np.full(4, 0.25), np.zeros(4, int), r"shape \(4,\)"),
        (np.full((4, 2), 0.5), np.zeros(3, int), r"shape \(3,\)"),
        (np.ones((4, 2)), np.zeros(4, int), "with a sum of 1"),
        (np.array([[1.5, -0.5]]), np.zeros(1, int), "in 0..1"),
        (np.array([[np.nan, 0.5]]), np.zeros(1, int), "in 0..1"),
    ],
)
def test_what_is_no_prediction_is_refused(probabilities, targets, message):
    rows = np.arange(len(targets))
    for function in (fit_temperature, expected_calibration_error, lambda *values: calibrate(*values, rows, rows)):
        with pytest.raises(DataError, match=message):
            function(probabilities, targets)


def test_a_threshold_out_of_range_is_refused():
    with pytest.raises(ConfigError, match=r"^threshold is 1\.5"):
        judged(np.full((4, 2), 0.5), np.zeros(4, int), 1.5)


# Folds ----------------------------------------------------------------------------------------------------------------


def two_folds():
    """Return predictions of two folds of 12, 9 to 1 sure: 3 of 4 right in the first, 2 of 3 in the second."""
    probabilities = np.tile([0.9, 0.1], (24, 1))
    targets = np.array([0, 0, 0, 1] * 3 + [0, 0, 1] * 4)
    return probabilities, targets, np.arange(24), np.arange(24) // 12


def test_a_fold_is_judged_at_the_temperature_of_the_others():
    found = calibrate(*two_folds())
    # at the others' temperatures the first is 2 to 1 sure, the second 3 to 1; together two thirds to three quarters
    assert found.temperature == pytest.approx(np.log(9) / np.log(17 / 7), rel=1e-3)
    assert found.error_after == pytest.approx(1 / 12, abs=1e-3), "and 0 at temperatures that had heard the fold"
    found = calibrate(*two_folds(), threshold=0.7)
    assert (found.coverage, found.accuracy) == pytest.approx((1 / 2, 2 / 3)), "only the second is so sure"


def test_recordings_of_a_fold_are_left_out_wherever_they_are():
    probabilities, targets, clips, folds = two_folds()
    again = calibrate(*(np.concatenate([each, each]) for each in (probabilities, targets, clips)),
                      np.concatenate([folds, folds + 2]))  # fmt: skip
    once = calibrate(probabilities, targets, clips, folds)
    assert again.error_after == pytest.approx(once.error_after, abs=1e-6)
    assert (again.n, once.n) == (24, 24), "recordings count, not predictions"


def test_one_fold_alone_says_nothing_of_others():
    probabilities, targets, clips, _ = two_folds()
    with pytest.raises(DataError, match="All recordings are in one fold, so a temperature cannot be fitted"):
        calibrate(probabilities, targets, clips, np.zeros(24, int))
    with pytest.raises(DataError, match="need as many recordings and folds"):
        calibrate(probabilities, targets, clips, np.zeros(23, int))
