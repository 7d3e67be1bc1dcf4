"""From the real recordings of RAVDESS to the arrays that the published folds train on."""

import numpy as np
import pytest

from serzoo.data import load_corpus
from serzoo.data.cache import FeatureCache
from serzoo.data.examples import load_examples
from serzoo.data.leakage import check_leakage, hash_contents
from serzoo.data.protocols import get_protocol
from serzoo.errors import SerzooWarning
from serzoo.experiments.cross_validate import cross_validate
from serzoo.recipes import load_recipe

pytestmark = [pytest.mark.recordings, pytest.mark.slow]


def test_ravdess_gives_the_arrays_of_the_papers(ravdess_root, tmp_path):
    recipe = load_recipe("timnet-ravdess")
    manifest = load_corpus("ravdess", ravdess_root)
    examples = load_examples(manifest, recipe.features, cache=FeatureCache(tmp_path))
    assert examples.features.shape == (1440, 215, 39)
    assert examples.features.dtype == np.float32
    assert np.bincount(examples.targets).tolist() == [192, 192, 192, 192, 192, 96, 192, 192]
    assert -1200 < examples.features.min() < -600
    assert 150 < examples.features.max() < 400


def test_the_published_folds_leak_what_they_are_known_to_leak(ravdess_root):
    manifest = load_corpus("ravdess", ravdess_root)
    protocol = get_protocol(load_recipe("timnet-ravdess").protocol)
    folds = protocol.folds(manifest)
    assert [(len(fold.train), len(fold.test)) for fold in folds] == [(1296, 144)] * 10
    report = check_leakage(manifest, folds, hash_contents(manifest), protocol)
    assert report.speaker_independent is False
    assert report.duplicates == (("03-01-03-01-02-01-07.flac", "03-01-03-01-02-02-07.flac"),)


SMALL_ACRNN = {
    "model.arguments": {"n_convs": 1, "filters": [2, 2], "pool_freq": 8, "projection": 8, "lstm_units": 4},
    "training.epochs": 1,
}
"""What makes ACRNN small and its training short; the protocol, the features and the segments stay the recipe's."""


def test_acrnn_on_the_folds_of_emobox(ravdess_root, tmp_path):
    manifest = load_corpus("ravdess", ravdess_root)
    examples = load_examples(manifest, load_recipe("acrnn-ravdess-emobox").features, with_gender=True)
    assert examples.features.shape == (2877, 300, 40, 3)
    assert np.bincount(examples.counts).tolist() == [0, 3, 1437]
    assert np.unique(examples.genders, return_counts=True)[1].tolist() == [720, 720]
    report = cross_validate(
        "acrnn-ravdess-emobox",
        data_root=ravdess_root,
        run_folder=tmp_path,
        folds=[2],
        changes=SMALL_ACRNN,
        progress=False,
    )
    assert report.protocol.speaker_independent
    assert report.leakage.speaker_independent
    assert report.summary.pooled.n == 240
    assert report.n_folds == 6


def test_acrnn_leaves_each_speaker_of_emodb_out(emodb_root, tmp_path):
    changes = {**SMALL_ACRNN, "repeats": 2}
    with pytest.warns(SerzooWarning, match="EMO-DB: no recording of"):
        report = cross_validate(
            "acrnn-emodb", data_root=emodb_root, run_folder=tmp_path, folds=[10], changes=changes, progress=False
        )
    assert report.protocol.name == "loso8-1-1-v1"
    assert report.leakage.speaker_independent
    assert report.n_folds == 10
    assert report.runs == {"fold10-speaker-16": ("fold10-speaker-16", "fold10-speaker-16-seed1")}
