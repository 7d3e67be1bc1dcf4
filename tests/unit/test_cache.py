import errno
import gc
import multiprocessing
import os
import sys
import threading
import time

import numpy as np
import pytest
import soundfile

from serzoo.data import audio, cache
from serzoo.data.cache import FeatureCache
from serzoo.data.workers import in_order
from serzoo.errors import AudioError, DataError
from serzoo.features.extract import extract
from serzoo.features.spec import MFCCSpec

SPEC = MFCCSpec(sample_rate=16_000, n_samples=4000, n_mfcc=13, n_fft=512, hop_length=160, n_mels=40)
FREE_SPEC = MFCCSpec(sample_rate=16_000, n_mfcc=13, n_fft=512, hop_length=160, n_mels=40)


@pytest.fixture
def clips(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    paths = [folder / f"{index}.wav" for index in range(6)]
    for index, path in enumerate(paths):
        write(path, seed=index, n_samples=1000 + 900 * index)
    return paths


@pytest.fixture
def store(tmp_path):
    return FeatureCache(tmp_path / "cache")


@pytest.fixture
def decoded(monkeypatch):
    """The names of the files decoded from now on."""
    names, read = [], audio.read
    monkeypatch.setattr(audio, "read", lambda path, rate: (names.append(path.name), read(path, rate))[1])
    return names


def write(path, seed, n_samples=2000):
    samples = 0.1 * np.random.default_rng(seed).standard_normal(n_samples)
    soundfile.write(path, samples, 16_000, subtype="FLOAT")


def entries(store):
    return sorted(store.folder.rglob("*.npy"))


def test_features_are_the_reference(store, clips, decoded):
    expected = np.stack([extract(audio.read(path, 16_000)[0], SPEC) for path in clips])
    decoded.clear()
    for _ in range(2):
        features = store.features(clips, SPEC)
        assert features.dtype == np.float32
        assert features.shape == (6, 26, 13)
        np.testing.assert_allclose(features, expected, rtol=0, atol=1e-4)
    assert sorted(decoded) == [path.name for path in clips]


def test_clips_of_their_own_length(store, clips):
    features = store.features(clips, FREE_SPEC)
    assert [len(clip) for clip in features] == [1 + (1000 + 900 * index) // 160 for index in range(6)]


def test_nothing_to_do(store):
    assert store.features([], SPEC).shape == (0, 26, 13)
    assert store.features([], FREE_SPEC) == []


def test_a_renamed_file_is_known(store, clips, decoded, tmp_path):
    before = store.clip(clips[0], SPEC)
    moved = clips[0].rename(tmp_path / "other name.wav")
    np.testing.assert_array_equal(store.clip(moved, SPEC), before)
    assert decoded == ["0.wav"]


def test_other_audio_under_the_same_name_is_not(store, clips):
    before = store.clip(clips[0], SPEC)
    times = clips[0].stat()
    write(clips[0], seed=99, n_samples=1000)
    os.utime(clips[0], ns=(times.st_atime_ns, times.st_mtime_ns))
    after = store.clip(clips[0], SPEC)
    assert np.abs(after - before).max() > 1
    np.testing.assert_array_equal(after, extract(audio.read(clips[0], 16_000)[0], SPEC))


def test_another_spec_or_feature_version_is_another_entry(store, clips, decoded, monkeypatch):
    store.clip(clips[0], SPEC)
    store.clip(clips[0], FREE_SPEC)
    monkeypatch.setattr("serzoo.features.spec.FEATURE_VERSION", 1000)
    store.clip(clips[0], SPEC)
    assert len(decoded) == len(entries(store)) == 3


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:10],
        lambda content: content[:-1],
        lambda content: content[:300] + bytes([content[300] ^ 1]) + content[301:],
        lambda content: bytes(len(content)),
        lambda content: content + b"\0",
    ],
)
def test_damaged_entries_are_made_again(store, clips, decoded, damage):
    before = store.clip(clips[0], SPEC)
    (entry,) = entries(store)
    whole = entry.read_bytes()
    entry.write_bytes(damage(whole))
    np.testing.assert_array_equal(store.clip(clips[0], SPEC), before)
    assert len(decoded) == 2
    assert entry.read_bytes() == whole


def test_cached_clips_are_read_in_threads_that_change_all_the_time(store, clips, monkeypatch):
    """Python's parser, which reads an array's header, ended there with "AST constructor recursion depth mismatch"."""

    class Cycle:
        def __del__(self):
            time.sleep(0)  # lets another thread in, wherever the garbage happens to be collected

    load = cache._load

    def load_and_leave_garbage(entry):
        cycle = Cycle()
        cycle.itself = cycle
        return load(entry)

    expected = store.features(clips, SPEC)
    monkeypatch.setattr(cache, "_load", load_and_leave_garbage)
    interval, threshold = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(1e-6)
    gc.set_threshold(5)
    try:
        features = store.features(clips * 150, SPEC, workers=8)
    finally:
        sys.setswitchinterval(interval)
        gc.set_threshold(*threshold)
    np.testing.assert_array_equal(features, np.concatenate([expected] * 150))


def test_an_entry_is_an_ordinary_npy_file(store, clips):
    features = store.clip(clips[0], SPEC)
    np.testing.assert_array_equal(np.load(entries(store)[0], allow_pickle=False), features)


def test_a_bad_file_stops_the_work(store, clips):
    clips[2].write_bytes(b"")
    clips[4].write_text("no audio")
    with pytest.raises(AudioError, match=r"2\.wav is empty"):
        store.features(clips, SPEC)
    assert not list(store.folder.rglob("*.part"))


def test_a_bad_file_is_not_hidden_by_the_cache(store, clips):
    store.features(clips, SPEC)
    clips[3].unlink()
    with pytest.raises(AudioError, match=r"3\.wav does not exist"):
        store.features(clips, SPEC)


def test_a_cache_folder_that_cannot_be_made(clips, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"feature cache .*file.* cannot be written \(.*SERZOO_CACHE"):
        FeatureCache(tmp_path / "file").features(clips, SPEC)


def test_a_full_disk(store, clips, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(DataError, match=r"cannot be written \(No space left on device\); make room"):
        store.features(clips, SPEC)
    assert not [path for path in store.folder.rglob("*") if path.is_file()]


def test_no_more_clips_at_a_time_than_workers(store, clips, monkeypatch):
    lock, alive, most, read = threading.Lock(), 0, 0, audio.read

    def counted(path, rate):
        nonlocal alive, most
        with lock:
            alive += 1
            most = max(most, alive)
        time.sleep(0.01)
        with lock:
            alive -= 1
        return read(path, rate)

    monkeypatch.setattr(audio, "read", counted)
    store.features(clips, SPEC, workers=2)
    assert most == 2


def test_few_clips_are_begun_before_they_are_wanted():
    begun = []
    results = in_order(lambda item: begun.append(item) or -item, range(100), workers=2)
    assert [next(results), next(results), next(results)] == [0, -1, -2]
    time.sleep(0.05)  # threads that may go on do
    assert len(begun) <= 3 + 2 * 2
    results.close()
    assert len(begun) <= 3 + 2 * 2
    assert list(in_order(abs, [-3, 2, -1], workers=None)) == [3, 2, 1]


@pytest.mark.parametrize("spec", [SPEC, FREE_SPEC])
def test_fill(store, clips, decoded, spec):
    assert store.fill(clips, spec) == [len(clip) for clip in store.features(clips, spec)]
    assert store.fill(clips, spec) == store.fill(clips, spec, workers=1)
    assert len(decoded) == 6
    assert store.fill([], spec) == []


def test_fill_names_a_bad_file(store, clips):
    clips[2].write_bytes(b"")
    with pytest.raises(AudioError, match=r"2\.wav is empty"):
        store.fill(clips, SPEC)


@pytest.fixture
def hashed(monkeypatch):
    """The names of the files whose content is hashed from now on."""
    names, content_hash = [], audio.content_hash
    monkeypatch.setattr(audio, "content_hash", lambda path: (names.append(path.name), content_hash(path))[1])
    return names


def test_content_hashes_are_remembered(store, clips, hashed, tmp_path):
    expected = [audio.content_hash(path) for path in clips]
    hashed.clear()
    assert store.content_hashes(clips) == expected
    assert store.content_hashes(clips[::-1], workers=1) == expected[::-1]
    moved = clips[0].rename(tmp_path / "other name.wav")
    assert FeatureCache(store.folder).content_hashes([moved]) == expected[:1]
    assert sorted(hashed) == [path.name for path in clips]


def test_content_hashes_of_changed_files_are_new(store, clips, hashed):
    before, times = store.content_hashes(clips), clips[3].stat()
    write(clips[3], seed=99, n_samples=1000 + 900 * 3)
    os.utime(clips[3], ns=(times.st_atime_ns, times.st_mtime_ns))
    assert clips[3].stat().st_size == times.st_size
    after = store.content_hashes(clips)
    assert [old == new for old, new in zip(before, after, strict=True)] == [True] * 3 + [False] + [True] * 2
    assert after[3] == audio.content_hash(clips[3])


def test_content_hashes_of_another_decoder_are_made_again(store, clips, hashed, monkeypatch):
    store.content_hashes(clips[:1])
    monkeypatch.setattr(soundfile, "__libsndfile_version__", "0.0.1")
    store.content_hashes(clips[:1])
    assert hashed == ["0.wav", "0.wav"]


@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content[:-1], lambda content: bytes(64)])
def test_damaged_content_hashes_are_made_again(store, clips, damage):
    expected = store.content_hashes(clips[:1])
    (entry,) = store.folder.rglob("*.sha256")
    entry.write_bytes(damage(entry.read_bytes()))
    assert store.content_hashes(clips[:1]) == expected


def test_content_hashes_need_no_cache(clips, tmp_path):
    (tmp_path / "file").write_text("in the way")
    expected = [audio.content_hash(path) for path in clips]
    assert FeatureCache(tmp_path / "file").content_hashes(clips) == expected


def test_content_hashes_name_a_bad_file(store, clips):
    store.content_hashes(clips)
    clips[4].unlink()
    with pytest.raises(AudioError, match=r"4\.wav does not exist"):
        store.content_hashes(clips)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(store, tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    for function in (store.content_hashes, lambda paths: store.features(paths, SPEC)):
        with pytest.raises(AudioError, match=r"pipe\.wav is a pipe or device"):
            function([tmp_path / "pipe.wav"])


def test_the_progress_bar_is_for_terminals(store, clips, capsys):
    store.features(clips, SPEC)
    assert capsys.readouterr() == ("", "")
    store.features(clips, SPEC, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "100%" in err


def test_size_and_clear(store, clips):
    assert store.size() == (0, 0)
    store.features(clips, SPEC)
    n_entries, n_bytes = store.size()
    assert n_entries == 6
    assert n_bytes == sum(entry.stat().st_size for entry in entries(store))
    store.content_hashes(clips)
    assert store.size() == (6, sum(path.stat().st_size for path in store.folder.rglob("*") if path.is_file()))
    foreign = store.folder / "ab" / "notes.npy"
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text("not an entry")
    store.clear()
    assert store.size() == (0, 0)
    assert [path for path in store.folder.rglob("*") if path.is_file()] == [foreign]


def test_default_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SERZOO_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert FeatureCache().folder == tmp_path / "home" / ".cache" / "serzoo" / "features"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert FeatureCache().folder == tmp_path / "xdg" / "serzoo" / "features"
    monkeypatch.setenv("SERZOO_CACHE", str(tmp_path / "own"))
    assert cache.default_folder() == tmp_path / "own" / "features"


def fill(folder, clips, barrier, results):
    store = FeatureCache(folder)
    store.clip(clips[0], FREE_SPEC)  # imports done
    barrier.wait(60)
    for _ in range(10):
        results.put(store.features(clips, SPEC).sum(dtype=np.float64))
        store.clear()


def test_two_processes_fill_one_folder(store, clips):
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    processes = [context.Process(target=fill, args=(store.folder, clips, barrier, results)) for _ in range(2)]
    for process in processes:
        process.start()
    sums = [results.get(timeout=60) for _ in range(20)]
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    expected = store.features(clips, SPEC).sum(dtype=np.float64)
    np.testing.assert_allclose(sums, expected, rtol=1e-6)
    assert not list(store.folder.rglob("*.part"))
