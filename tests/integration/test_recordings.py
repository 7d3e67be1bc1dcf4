"""From the real recordings of RAVDESS to the arrays that the published folds train on."""

import numpy as np
import pytest

from serzoo.config import load_recipe
from serzoo.data import load_corpus
from serzoo.data.cache import FeatureCache
from serzoo.data.leakage import check_leakage, hash_contents
from serzoo.data.pipeline import load_examples
from serzoo.data.splits import get_protocol

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
