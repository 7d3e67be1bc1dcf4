import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score

from serzoo.errors import DataError
from serzoo.metrics import Scores, summarise

NAMES = ("angry", "happy", "sad")
TARGETS = [0, 0, 0, 0, 1, 1, 2, 2]
PREDICTIONS = [0, 0, 0, 1, 1, 2, 2, 0]


def test_scores_by_hand() -> None:
    scores = Scores.from_predictions(TARGETS, PREDICTIONS, NAMES)
    assert scores.confusion == ((3, 1, 0), (0, 1, 1), (1, 0, 1))
    assert scores.n == 8
    assert scores.recall == {"angry": 0.75, "happy": 0.5, "sad": 0.5}
    assert scores.uar == pytest.approx((0.75 + 0.5 + 0.5) / 3)
    assert scores.war == 5 / 8
    # F1: angry 6/8, happy 2/4, sad 2/4; supports 4, 2, 2
    assert scores.weighted_f1 == pytest.approx((4 * 0.75 + 2 * 0.5 + 2 * 0.5) / 8)
    assert str(scores) == "UAR 58.33  WAR 62.50  F1 62.50  (n=8)"


def test_absent_class_has_no_recall_and_does_not_lower_uar() -> None:
    """EMO-DB's speaker 08: no disgust among the targets, even if it is predicted."""
    scores = Scores.from_predictions([0, 0, 1, 1], [0, 2, 1, 1], ("angry", "boredom", "disgust"))
    assert scores.recall == {"angry": 0.5, "boredom": 1.0, "disgust": None}
    assert scores.uar == 0.75


def test_dict_round_trip_through_json() -> None:
    scores = Scores.from_predictions(TARGETS, PREDICTIONS, NAMES)
    stored = json.loads(json.dumps(scores.to_dict()))
    assert stored["uar"] == scores.uar
    assert stored["n"] == 8
    assert Scores.from_dict(stored) == scores


def test_summary_by_hand() -> None:
    perfect = Scores.from_predictions([0, 1, 1, 1], [0, 1, 1, 1], ("a", "b"))
    poor = Scores.from_predictions([0, 1], [1, 1], ("a", "b"))
    summary = summarise([[perfect], [poor]])
    assert summary.mean == {"uar": 0.75, "war": 0.75, "weighted_f1": pytest.approx((1 + (0 + 2 / 3) / 2) / 2)}
    assert summary.std["uar"] == 0.25  # of the population: divided by 2, not by 1
    assert summary.pooled.confusion == ((1, 1), (0, 4))
    assert summary.pooled.war == 5 / 6
    assert str(summary).startswith("UAR 75.00 ± 25.00  WAR 75.00 ± 25.00")
    assert str(summary).endswith("(2 folds, n=6)")
    assert json.loads(json.dumps(summary.to_dict()))["pooled"]["n"] == 6


def test_runs_of_a_fold_are_averaged_before_folds_are() -> None:
    right = Scores.from_predictions([0, 0, 1, 1], [0, 0, 1, 1], ("a", "b"))
    half = Scores.from_predictions([0, 0, 1, 1], [0, 1, 0, 1], ("a", "b"))
    wrong = Scores.from_predictions([0, 1], [1, 0], ("a", "b"))
    summary = summarise([[right, half, half, half], [wrong]])
    # the folds' averages are (1 + 3 / 2) / 4 = 0.625 and 0; over the five runs it would be 0.5
    assert summary.mean["uar"] == summary.mean["war"] == summary.mean["weighted_f1"] == 0.3125
    assert summary.std["uar"] == 0.3125
    assert summary.pooled.confusion == ((2 + 3, 3 + 1), (3 + 1, 2 + 3))
    assert str(summary) == "UAR 31.25 ± 31.25  WAR 31.25 ± 31.25  F1 31.25 ± 31.25  (2 folds, 5 runs, n=18)"


def test_a_summary_can_be_recomputed_from_its_plain_data() -> None:
    runs = [Scores.from_predictions(TARGETS, np.roll(PREDICTIONS, shift), NAMES) for shift in range(5)]
    summary = summarise([runs[:3], runs[3:]])
    stored = json.loads(json.dumps(summary.to_dict()))
    again = summarise([[Scores.from_dict(run) for run in fold] for fold in stored["folds"]])
    assert again == summary
    assert [[run["uar"] for run in fold] for fold in stored["folds"]] == [
        [run.uar for run in fold] for fold in (runs[:3], runs[3:])
    ]


def test_pooling_gives_an_absent_class_its_recall_back() -> None:
    first = Scores.from_predictions([0, 0], [0, 0], ("a", "b"))
    second = Scores.from_predictions([0, 1], [0, 0], ("a", "b"))
    assert first.recall["b"] is None
    assert summarise([[first], [second]]).pooled.recall == {"a": 1.0, "b": 0.0}


labelled = st.integers(2, 6).flatmap(
    lambda k: st.tuples(
        st.just(k), st.lists(st.tuples(st.integers(0, k - 1), st.integers(0, k - 1)), min_size=1, max_size=60)
    )
)


@given(labelled)
def test_scores_equal_scikit_learn(case: tuple[int, list[tuple[int, int]]]) -> None:
    n_classes, pairs = case
    targets, predictions = map(np.array, zip(*pairs, strict=True))
    scores = Scores.from_predictions(targets, predictions, [f"c{index}" for index in range(n_classes)])
    np.testing.assert_array_equal(scores.confusion, confusion_matrix(targets, predictions, labels=np.arange(n_classes)))
    assert scores.war == pytest.approx(accuracy_score(targets, predictions))
    present = [value for value in scores.recall.values() if value is not None]
    assert len(present) == len(set(targets.tolist()))
    if set(predictions.tolist()) <= set(targets.tolist()) and len(present) > 1:  # scikit-learn warns otherwise
        assert scores.uar == pytest.approx(balanced_accuracy_score(targets, predictions))
    assert scores.weighted_f1 == pytest.approx(f1_score(targets, predictions, average="weighted", zero_division=0))


@given(labelled, st.randoms(use_true_random=False))
def test_renaming_classes_changes_no_score(case: tuple[int, list[tuple[int, int]]], random: object) -> None:
    n_classes, pairs = case
    names = [f"c{index}" for index in range(n_classes)]
    order = list(range(n_classes))
    random.shuffle(order)  # type: ignore[attr-defined]
    targets, predictions = map(list, zip(*pairs, strict=True))
    scores = Scores.from_predictions(targets, predictions, names)
    renamed = Scores.from_predictions(
        [order[index] for index in targets],
        [order[index] for index in predictions],
        [names[order.index(index)] for index in range(n_classes)],
    )
    assert renamed.recall == scores.recall
    assert (renamed.uar, renamed.war) == pytest.approx((scores.uar, scores.war))
    assert renamed.weighted_f1 == pytest.approx(scores.weighted_f1)


@pytest.mark.parametrize(
    ("targets", "predictions", "names", "message"),
    [
        ([], [], NAMES, "shape \\(0,\\)"),
        ([0, 1], [0], NAMES, "2 targets but 1 predictions"),
        ([0, 3], [0, 1], NAMES, "targets hold 3; with 3 classes, indices go from 0 to 2"),
        ([0, 1], [0, -1], NAMES, "predictions hold -1"),
        ([0, 1], [[0.2, 0.8], [0.5, 0.5]], NAMES, "predictions have shape \\(2, 2\\)"),
        ([0, 1], [0.0, 1.0], NAMES, "class indices \\(integers\\)"),
        ([0, 0], [0, 0], ["angry"], "at least 2 classes"),
        ([0, 0], [0, 0], ["angry", "angry"], "angry"),
    ],
)
def test_bad_predictions_are_refused(targets: list, predictions: list, names: list, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Scores.from_predictions(targets, predictions, names)


@pytest.mark.parametrize("confusion", [[[1, 2]], [[0, 0], [0, 0]], [[1, -1], [0, 1]]])
def test_bad_confusion_matrix_is_refused(confusion: list) -> None:
    with pytest.raises(DataError, match="2 x 2 counts"):
        Scores.from_dict({"confusion": confusion, "class_names": ["a", "b"]})


def test_stored_scores_without_matrix_are_refused() -> None:
    with pytest.raises(DataError, match="lack confusion"):
        Scores.from_dict({"class_names": ["a", "b"], "uar": 1.0})


def test_summary_refuses_nothing_and_mixed_classes() -> None:
    with pytest.raises(DataError, match="at least one"):
        summarise([])
    with pytest.raises(DataError, match="each at least once"):
        summarise([[Scores.from_predictions([0], [0], ("a", "b"))], []])
    first = Scores.from_predictions([0], [0], ("a", "b"))
    second = Scores.from_predictions([0], [0], ("b", "a"))
    with pytest.raises(DataError, match="different classes"):
        summarise([[first], [second]])
    with pytest.raises(DataError, match="different classes"):
        summarise([[first, second]])
