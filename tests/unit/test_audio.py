import os
import struct

import librosa
import numpy as np
import pytest
import soundfile

from serzoo.data import audio
from serzoo.errors import AudioError

RATE = 16_000


def noise(n_samples=1600, channels=1, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal((n_samples, channels))).astype(np.float32)


def write(path, samples=None, rate=RATE, subtype=None):
    soundfile.write(path, noise() if samples is None else samples, rate, subtype=subtype)
    return path


def wav_bytes(tmp_path, **patches):
    """A 16-bit wav's bytes with header fields overwritten: offset 24 is the rate, 40 the size of the samples."""
    content = bytearray(write(tmp_path / "whole.wav").read_bytes())
    for name, value in patches.items():
        struct.pack_into("<I", content, {"rate": 24, "size": 40}[name], value)
    return bytes(content)


@pytest.mark.parametrize("rate", [None, 8_000, 16_000, 22_050, 48_000])
@pytest.mark.parametrize(
    ("name", "subtype", "channels"),
    [
        ("a.wav", "PCM_16", 1),
        ("a.wav", "PCM_24", 2),
        ("a.wav", "FLOAT", 2),
        ("a.flac", "PCM_16", 2),
        ("a.mp3", None, 1),
    ],
)
def test_read_equals_librosa(tmp_path, name, subtype, channels, rate):
    path = write(tmp_path / name, noise(4001, channels), subtype=subtype)
    waveform, found_rate = audio.read(path, rate)
    expected, expected_rate = librosa.load(path, sr=rate)
    assert found_rate == expected_rate
    assert waveform.dtype == np.float32
    assert waveform.shape == expected.shape
    np.testing.assert_allclose(waveform, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.aiff"])
def test_sixteen_bits_are_libsndfiles_floats(tmp_path, name, channels):
    samples = np.random.default_rng(0).integers(-(2**15), 2**15, (3000, channels), np.int16)
    samples[0], samples[1] = -(2**15), 2**15 - 1
    path = write(tmp_path / name, samples, subtype="PCM_16")
    expected, _ = soundfile.read(path, dtype="float32", always_2d=True)
    np.testing.assert_array_equal(audio.read(path)[0], expected.mean(axis=1), strict=True)


@pytest.mark.recordings
def test_read_equals_librosa_on_recordings(ravdess_root):
    stereo = ravdess_root / "Actor_20" / "03-01-03-01-02-01-20.flac"
    assert audio.probe(stereo).channels == 2
    for path in (stereo, next(ravdess_root.glob("Actor_07/*.flac"))):
        np.testing.assert_allclose(audio.read(path, 22_050)[0], librosa.load(path)[0], rtol=0, atol=1e-6)


def test_channels_are_averaged(tmp_path):
    samples = np.column_stack([np.full(100, 0.5), np.full(100, -0.25)]).astype(np.float32)
    waveform, _ = audio.read(write(tmp_path / "a.wav", samples, subtype="FLOAT"))
    np.testing.assert_array_equal(waveform, np.full(100, 0.125, np.float32))


def test_probe_reads_the_header(tmp_path):
    info = audio.probe(write(tmp_path / "a.flac", noise(4000, 2)))
    assert info == audio.AudioInfo(sample_rate=RATE, channels=2, n_samples=4000)
    assert info.duration == 0.25


LFS_STUB = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


@pytest.mark.parametrize("function", [audio.probe, audio.read, audio.content_hash])
def test_a_name_that_is_not_utf_8(tmp_path, function):
    path = tmp_path / os.fsdecode(b"b\xe9d.wav")
    path.write_bytes(wav_bytes(tmp_path))
    with pytest.raises(AudioError, match=r"b\\udce9d\.wav' has a name that is not UTF-8; rename it\.$") as caught:
        function(path)
    assert str(caught.value).isascii()


@pytest.mark.parametrize(
    ("make", "found", "remedy"),
    [
        (lambda tmp: b"", "is empty (0 bytes)", "get it again"),
        (lambda tmp: b"angry;03;a01\n" * 20, "cannot be decoded", "convert it to wav or flac"),
        (lambda tmp: LFS_STUB, "git-lfs stub", "git lfs pull"),
        (lambda tmp: wav_bytes(tmp)[:2000], "announces 3200 bytes of samples, 1956 are there", "get it again"),
        (lambda tmp: wav_bytes(tmp)[:30], "header ends before the samples", "get it again"),
        (lambda tmp: wav_bytes(tmp, size=0)[:44], "holds no samples", "export it again"),
        (lambda tmp: wav_bytes(tmp, rate=0), "sample rate of 0 Hz", "export it again"),
    ],
)
@pytest.mark.parametrize("function", [audio.probe, audio.read, audio.content_hash])
def test_bad_files(tmp_path, make, found, remedy, function):
    path = tmp_path / "bad.wav"
    path.write_bytes(make(tmp_path))
    with pytest.raises(AudioError) as caught:
        function(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert found in message
    assert remedy in message
    assert "\n" not in message


@pytest.mark.parametrize("function", [audio.probe, audio.read, audio.content_hash])
def test_missing_files_and_folders(tmp_path, function):
    with pytest.raises(AudioError, match=r"nowhere\.wav does not exist"):
        function(tmp_path / "nowhere.wav")
    with pytest.raises(AudioError, match="is a folder"):
        function(tmp_path)


def test_a_cut_off_flac(tmp_path):
    path = write(tmp_path / "a.flac", noise(48_000))
    path.write_bytes(path.read_bytes()[:30_000])
    with pytest.raises(AudioError, match=r"a\.flac .*get it again"):
        audio.read(path)


@pytest.mark.parametrize("size", [0x7FFFF000, 0x7FFFFFFF, 0xFFFFFFFF])
def test_sizes_written_by_streaming_programs(tmp_path, size):
    path = tmp_path / "streamed.wav"
    path.write_bytes(wav_bytes(tmp_path, size=size))
    np.testing.assert_array_equal(audio.read(path)[0], audio.read(tmp_path / "whole.wav")[0])


def with_extra_chunk(content):
    """Insert a chunk of odd length, hence with a pad byte, before the samples."""
    return content[:36] + b"LIST" + struct.pack("<I", 5) + b"hello\0" + content[36:]


def test_a_chunk_of_odd_length_before_the_samples(tmp_path):
    path = tmp_path / "chunk.wav"
    path.write_bytes(with_extra_chunk(wav_bytes(tmp_path)))
    np.testing.assert_array_equal(audio.read(path)[0], audio.read(tmp_path / "whole.wav")[0])
    path.write_bytes(with_extra_chunk(wav_bytes(tmp_path))[:-2])
    with pytest.raises(AudioError, match="announces 3200 bytes of samples, 3198 are there"):
        audio.probe(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers(tmp_path, value):
    samples = noise()
    samples[[3, 5]] = value
    path = write(tmp_path / "a.wav", samples, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"a\.wav holds 2 samples that are NaN or infinite"):
        audio.read(path)


@pytest.mark.parametrize("rate", [0, -1])
def test_reading_at_an_impossible_rate(tmp_path, rate):
    with pytest.raises(AudioError, match=f"sample rate {rate} Hz"):
        audio.read(write(tmp_path / "a.wav"), rate)


def test_silence_is_read_but_not_audible(tmp_path):
    waveform, _ = audio.read(write(tmp_path / "a.wav", np.zeros((500, 1))), 22_050)
    assert not waveform.any()
    with pytest.raises(AudioError, match=r"a\.wav is silent: its 690 samples are all within 1e-06 of 0"):
        audio.check_audible(waveform, "a.wav")
    waveform[7] = 1e-5
    audio.check_audible(waveform, "a.wav")


WAVE = np.sin(np.arange(500, dtype=np.float32))


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (np.full(500, 0.5, np.float32), r"all within 1e-06 of 0\.5"),
        (WAVE * np.float32(1e-30), "is silent"),
        (WAVE * np.float32(1e30), r"has samples of 1e\+30"),
    ],
)
def test_what_is_no_sound_is_not_audible(waveform, message):
    with pytest.raises(AudioError, match=message):
        audio.check_audible(waveform, "a.wav")


def test_content_hash_ignores_format_and_header(tmp_path):
    samples = np.random.default_rng(0).integers(-(2**15), 2**15, (1600, 2), np.int16)
    wav = write(tmp_path / "a.wav", samples)
    chunk = tmp_path / "b.wav"
    chunk.write_bytes(with_extra_chunk(wav.read_bytes()))
    flac = write(tmp_path / "c.flac", samples)
    assert len({audio.content_hash(path) for path in (wav, chunk, flac)}) == 1
    assert len(audio.content_hash(wav)) == 64


def test_content_hash_tells_recordings_apart(tmp_path):
    samples = noise(channels=2)
    louder = samples.copy()
    louder[-1, -1] += 2**-14
    paths = [
        write(tmp_path / "a.wav", samples),
        write(tmp_path / "b.wav", samples, rate=22_050),
        write(tmp_path / "c.wav", samples[:, :1]),
        write(tmp_path / "d.wav", samples.reshape(-1, 1)),
        write(tmp_path / "e.wav", louder),
        write(tmp_path / "f.wav", samples[:-1]),
    ]
    assert len({audio.content_hash(path) for path in paths}) == len(paths)


def test_check_waveform_returns_float32():
    samples = noise()[:, 0].astype(np.float64)
    checked = audio.check_waveform(samples, RATE)
    assert checked.dtype == np.float32
    np.testing.assert_array_equal(checked, samples)


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (np.zeros(10), 0, "sample rate 0 Hz"),
        (np.zeros((10, 2)), RATE, r"shape \(10, 2\); give one channel"),
        (np.zeros(0), RATE, "holds no samples"),
        (np.zeros(10, np.int16), RATE, "int16 samples; give floats"),
        (np.array([0.0, np.nan]), RATE, "1 samples that are NaN"),
        (np.array(["a"]), RATE, "give floats"),
    ],
)
def test_check_waveform_refuses(samples, rate, message):
    with pytest.raises(AudioError, match=f"^clip .*{message}"):
        audio.check_waveform(samples, rate, "clip")
