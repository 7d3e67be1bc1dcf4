"""Orders, mixtures and masks of epochs: functions of seed, epoch and segment alone."""

import numpy as np
import pytest

from serzoo.data.epochs import epoch_masks, epoch_mixture, epoch_order, steps_per_epoch
from serzoo.settings import SpecAugmentConfig

MASKS = SpecAugmentConfig(time_masks=2, time_width=3, feature_masks=1, feature_width=2)


@pytest.mark.parametrize("epoch_batches", [1, 3])
def test_steps_per_epoch_counts_the_last_smaller_batch(epoch_batches):
    assert steps_per_epoch(4 * epoch_batches - 3, 4) == epoch_batches
    assert steps_per_epoch(4 * epoch_batches, 4) == epoch_batches


def test_order_is_a_permutation_of_its_own_in_every_epoch_and_seed():
    orders = [tuple(epoch_order(50, seed, epoch)) for seed in (1, 2) for epoch in (0, 1)]
    assert [sorted(order) for order in orders] == [list(range(50))] * 4
    assert len(set(orders)) == 4
    assert orders[3] == tuple(epoch_order(50, 2, 1))


def test_every_place_is_taken_alike():
    orders = np.array([epoch_order(4, 7, epoch) for epoch in range(2000)])
    shares = np.array([[np.mean(orders[:, place] == segment) for segment in range(4)] for place in range(4)])
    assert np.abs(shares - 0.25).max() < 0.04  # four standard deviations


def test_masks_of_a_segment_depend_on_no_other():
    together = epoch_masks(np.arange(9), (20, 6), 1, 5, MASKS)
    alone = epoch_masks(np.array([7, 2]), (20, 6), 1, 5, MASKS)
    for all_of_them, two in zip(together, alone, strict=True):
        np.testing.assert_array_equal(two, all_of_them[[7, 2]])
    other = epoch_masks(np.arange(9), (20, 6), 1, 6, MASKS)
    assert any((mine != theirs).any() for mine, theirs in zip(together, other, strict=True))


def test_masks_are_bands_of_all_widths_up_to_theirs_anywhere():
    one = SpecAugmentConfig(time_masks=1, time_width=3)
    frames, features = epoch_masks(np.arange(3000), (5, 2), 0, 0, one)
    assert features.all()
    hidden = [tuple(np.flatnonzero(~row)) for row in frames]
    assert all(places == tuple(range(places[0], places[0] + len(places))) for places in hidden if places)
    assert {len(places) for places in hidden} == {0, 1, 2, 3}
    assert {places for places in hidden if len(places) == 2} == {(0, 1), (1, 2), (2, 3), (3, 4)}


def test_a_mask_wider_than_the_segment_hides_no_more_than_there_is():
    frames, _ = epoch_masks(np.arange(200), (2, 1), 0, 0, SpecAugmentConfig(time_masks=1, time_width=9))
    assert frames.shape == (200, 2)
    assert (~frames).all(axis=1).any()


def test_no_masks_hide_nothing():
    frames, features = epoch_masks(np.arange(3), (4, 5), 0, 0, SpecAugmentConfig())
    assert frames.all()
    assert features.all()


def test_mixtures_pair_each_segment_with_one_and_leave_it_the_larger_share():
    partners, shares = epoch_mixture(500, 1, 3, 0.4)
    assert sorted(partners) == list(range(500))
    assert shares.dtype == np.float32
    assert shares.min() >= 0.5
    assert shares.max() <= 1.0
    for other in (epoch_mixture(500, 2, 3, 0.4), epoch_mixture(500, 1, 4, 0.4)):
        assert (other[0] != partners).any()
    np.testing.assert_array_equal(epoch_mixture(500, 1, 3, 0.4)[1], shares)


def test_shares_are_those_of_the_beta_distribution():
    shares = epoch_mixture(20_000, 0, 0, 1.0)[1]  # of a uniform one, its larger half: mean 3/4
    assert shares.mean() == pytest.approx(0.75, abs=0.005)
    assert epoch_mixture(20_000, 0, 0, 0.1)[1].mean() > 0.9
