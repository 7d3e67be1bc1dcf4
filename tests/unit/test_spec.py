from dataclasses import fields, replace

import pytest

from serzoo.errors import ConfigError, UnknownNameError
from serzoo.features.spec import SPECS, LogMelSpec, MFCCSpec, STFTSpec, spec_from_dict

PROGRAM = LogMelSpec(window="rectangular", preemphasis=0.97, standardize_waveform=False)


@pytest.mark.parametrize(
    ("spec", "digest"),
    [
        (MFCCSpec(), "07642490ee092d83"),
        (MFCCSpec(n_samples=110_000), "18a6a4867f409d63"),
    ],
)
def test_digests_of_cached_features(spec, digest):
    assert spec.digest() == digest


@pytest.mark.parametrize("spec", [MFCCSpec(), LogMelSpec(), STFTSpec()])
def test_segmenting_does_not_change_the_digest(spec):
    assert replace(spec, segment_frames=300).digest() == spec.digest()


@pytest.mark.parametrize("kind", [MFCCSpec, LogMelSpec, STFTSpec])
def test_a_fixed_length_and_segments_exclude_each_other(kind):
    with pytest.raises(ConfigError, match="n_samples is 96000 and segment_frames is 300; set one of them"):
        kind(n_samples=96_000, segment_frames=300)


@pytest.mark.parametrize(
    ("spec", "changes"),
    [
        (
            MFCCSpec(),
            {
                "sample_rate": 16_000, "n_samples": 9, "n_mfcc": 9, "n_fft": 9, "hop_length": 9, "n_mels": 99,
                "top_db": 9.0,
            },
        ),
        (
            LogMelSpec(),
            {
                "sample_rate": 8_000, "n_samples": 999, "n_mels": 9, "window_length": 9, "hop_length": 9, "n_fft": 999,
                "window": "rectangular", "preemphasis": 0.9, "standardize_waveform": False, "delta_width": 9,
            },
        ),
        (
            STFTSpec(),
            {"sample_rate": 8_000, "n_samples": 999, "window_length": 999, "hop_length": 9, "n_bins": 9},
        ),
    ],
)  # fmt: skip
def test_every_setting_is_in_the_digest(spec, changes):
    assert {*changes, "segment_frames"} == {field.name for field in fields(spec)}
    digests = {replace(spec, **{name: value}).digest() for name, value in changes.items()}
    assert len(digests | {spec.digest()}) == len(changes) + 1


@pytest.mark.parametrize("spec", [MFCCSpec(segment_frames=300), LogMelSpec(), PROGRAM, STFTSpec(n_bins=129)])
def test_plain_data_and_back(spec):
    values = spec.to_dict()
    assert list(values)[:5] == ["kind", "sample_rate", "n_samples", "segment_frames", "hop_length"]
    assert spec_from_dict(values) == spec
    assert SPECS[spec.kind] is type(spec)


def test_kind_is_mfcc_unless_given():
    assert spec_from_dict({"n_mfcc": 13}) == MFCCSpec(n_mfcc=13)
    assert spec_from_dict({"kind": "logmel", "n_mels": 64}) == LogMelSpec(n_mels=64)
    assert spec_from_dict({"kind": "stft", "n_bins": 64}) == STFTSpec(n_bins=64)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "log-mel"}, "Unknown feature kind 'log-mel'. Did you mean 'logmel'?"),
        ({"kind": ["mfcc"]}, "Unknown feature kind"),
        ({"kind": "logmel", "n_mel": 13}, "Unknown key 'n_mel'. Did you mean 'n_mels'?"),
        ({"kind": "mfcc", "n_mfc": 13}, "Unknown key 'n_mfc'. Did you mean 'n_mfcc'?"),
    ],
)
def test_unknown_names(values, message):
    with pytest.raises(UnknownNameError) as error:
        spec_from_dict(values)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (kind, name)
        for kind, own in {
            "mfcc": ["n_mels", "n_fft"],
            "logmel": ["n_mels", "n_fft"],
            "stft": ["window_length", "n_bins"],
        }.items()
        for name in ("sample_rate", "n_samples", "segment_frames", "hop_length", *own)
    ],
)
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "9"])
def test_counts_are_positive_integers(kind, name, value):
    with pytest.raises(ConfigError) as error:
        spec_from_dict({"kind": kind, name: value})
    or_none = ", or None (null in YAML)" if name in ("n_samples", "segment_frames") else ""
    assert str(error.value) == f"{name} is {value!r}; it must be an integer of at least 1{or_none}."


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "mfcc", "n_mfcc": 0}, "n_mfcc is 0; it must be an integer of at least 1."),
        ({"kind": "mfcc", "top_db": 0}, "top_db is 0; it must be a number above 0."),
        ({"kind": "mfcc", "n_mfcc": 129}, "n_mfcc is 129 but there are 128 mel bands; use n_mfcc <= n_mels."),
        ({"window_length": 0}, "window_length is 0; it must be an integer of at least 1."),
        ({"delta_width": 0}, "delta_width is 0; it must be an integer of at least 1."),
        ({"window_length": 513}, "window_length is 513 but n_fft is 512; use window_length <= n_fft."),
        ({"n_samples": 399}, "n_samples is 399 but one frame has 400; use n_samples >= window_length."),
        ({"window": "hann"}, "Unknown window 'hann'. Did you mean 'hamming'? Known: hamming, rectangular."),
        ({"window": None}, "window is None; it must be one of 'hamming', 'rectangular'."),
        ({"preemphasis": 1}, "preemphasis is 1; it must be a number of at least 0 and below 1."),
        ({"preemphasis": -0.1}, "preemphasis is -0.1; it must be a number of at least 0 and below 1."),
        ({"preemphasis": float("nan")}, "preemphasis is nan; it must be a number of at least 0 and below 1."),
        ({"preemphasis": True}, "preemphasis is True; it must be a number of at least 0 and below 1."),
        ({"standardize_waveform": 1}, "standardize_waveform is 1; it must be true or false."),
        (
            {"kind": "stft", "hop_length": 257},
            "hop_length is 257 but window_length is 256; use hop_length <= window_length.",
        ),
        ({"kind": "stft", "n_bins": 130}, "n_bins is 130 but a window of 256 samples has 129; use at most those."),
    ],
)
def test_values_out_of_range(values, message):
    with pytest.raises((ConfigError, UnknownNameError)) as error:
        spec_from_dict({"kind": "logmel", **values})
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("n_samples", "n_frames"),
    [(1, 1), (400, 1), (401, 2), (560, 2), (561, 3), (48_000, 299), (48_080, 299), (48_081, 300), (48_240, 300)],
)
def test_log_mel_frames(n_samples, n_frames):
    assert LogMelSpec().frames_in(n_samples) == n_frames


@pytest.mark.parametrize(
    ("n_samples", "n_frames"), [(1, 2), (128, 2), (129, 3), (63_872, 500), (63_873, 501), (64_000, 501), (64_001, 502)]
)
def test_stft_frames(n_samples, n_frames):
    assert STFTSpec().frames_in(n_samples) == n_frames


def test_shapes_of_network_inputs():
    assert (MFCCSpec().frame_shape, MFCCSpec(n_mfcc=13).frame_shape) == ((39,), (13,))
    assert (LogMelSpec().frame_shape, LogMelSpec(n_mels=64).frame_shape) == ((40, 3), (64, 3))
    assert (STFTSpec().frame_shape, STFTSpec(n_bins=129).frame_shape) == ((128, 1), (129, 1))
    assert LogMelSpec().n_frames is None
    assert LogMelSpec(n_samples=48_000).n_frames == 299
    assert LogMelSpec(segment_frames=300).n_frames == 300
    assert MFCCSpec(segment_frames=100).n_frames == 100
