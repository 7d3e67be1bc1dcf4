"""From recordings to cached MFCCs: serzoo against the papers' way, and the memory for a large corpus.

    python benchmarks/features.py --corpus DIR --out results.json
    python benchmarks/features.py --memory

The papers' way processes one file after another: ``librosa.load`` at 22,050 Hz, the clip padded or cut to 110,000
samples, ``librosa.feature.mfcc`` with 39 coefficients, a CSV file per clip, and ``numpy.loadtxt`` of all of them at the
end. It is timed on a sample of the files and scaled to the corpus. serzoo is timed on all files, with an empty cache
and with a full one, and so are the content hashes of the leakage guard. Each repeat times everything once, and a ratio
is the median over the repeats of their ratios, so that other work on the machine affects both sides. The recordings are
in the file cache, and libraries are imported.

The parts are milliseconds of processor time per clip on one thread, over the same sample. The floor is the time of the
libraries alone: SHA-256 of a clip's bytes, decoding by libsndfile into an allocated buffer, soxr, SciPy's Fourier
transforms of the frames with sound, and writing one file.

Memory is the peak of a new process that fills the cache with the features of synthetic recordings, all different.
"""

import argparse
import hashlib
import io
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import soundfile
from measuring import machine, peak_memory, run_apart, timed

from serzoo.data import audio
from serzoo.data.cache import FeatureCache
from serzoo.features.extract import extract
from serzoo.features.reference import fit_length
from serzoo.features.spec import MFCCSpec

SPEC = MFCCSpec(n_samples=110_000)
TINY = MFCCSpec(sample_rate=8000, n_samples=800, n_fft=512, hop_length=160, n_mels=40, n_mfcc=13)
SUFFIXES = (".flac", ".wav")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="folder with wav or flac files, at any depth")
    parser.add_argument("--out", type=Path, help="JSON file to write; default: none")
    parser.add_argument("--repeats", type=int, default=5, help="of every measurement; default: 5")
    parser.add_argument("--sample", type=int, default=48, help="files that the papers' way is timed on; default: 48")
    parser.add_argument("--workers", type=int, help="threads; default: one per core that may be used")
    parser.add_argument("--files", type=int, nargs="*", default=[1000, 10_000, 100_000], help="made-up corpora")
    parser.add_argument("--scratch", type=Path, help="folder for caches and made-up files; default: the system's")
    parser.add_argument("--memory", action="store_true", help="measure memory only; needs no corpus")
    parser.add_argument("--quick", action="store_true", help="24 files, one repeat, made-up corpora of 50 and 200")
    parser.add_argument("--fill", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fill:
        folder, cache, n_files = options.fill
        print(*fill_made_up(Path(folder), Path(cache), int(n_files)))
        return
    if options.memory:
        with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
            print_memory([measure_memory(n_files, Path(scratch)) for n_files in options.files])
        return
    if options.corpus is None:
        parser.error("--corpus is missing; give a folder with recordings, or --memory")
    paths = sorted(path for path in options.corpus.rglob("*") if path.suffix in SUFFIXES)
    if not paths:
        parser.error(f"{options.corpus} holds no {' or '.join(SUFFIXES)} files")
    if options.quick:
        paths, options.repeats, options.sample, options.files = paths[:24], 1, 6, [50, 200]
    results = measure(paths, options)
    print_table(results)
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n")


def measure(paths: Sequence[Path], options: argparse.Namespace) -> dict[str, Any]:
    """Return all figures of the table."""
    sample = paths[:: max(1, len(paths) // options.sample)]
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        memory = [measure_memory(n_files, Path(scratch)) for n_files in options.files]
        both_ways(sample[:2], sample[:2], Path(scratch) / "imports", options.workers)
        rounds = [
            both_ways(paths, sample, Path(scratch) / f"repeat {repeat}", options.workers)
            for repeat in range(options.repeats)
        ]
        parts = time_parts(sample, Path(scratch), options.repeats)
    return {
        "machine": machine(),
        "date": time.strftime("%Y-%m-%d"),
        "formats": sorted({path.suffix for path in paths}),
        "files": len(paths),
        "sample": len(sample),
        "difference": largest_difference(sample),
        "rounds": rounds,
        "ratio": median(one["papers"] / one["cold"] for one in rounds),
        "parts": parts,
        "memory": memory,
    }


def both_ways(paths: Sequence[Path], sample: Sequence[Path], scratch: Path, workers: int | None) -> dict[str, float]:
    """Return seconds for all of ``paths``, the papers' way scaled up from ``sample``."""
    scratch.mkdir()
    store = FeatureCache(scratch / "cache")
    features = partial(store.features, paths, SPEC, progress=False, workers=workers)
    hashes = partial(store.content_hashes, paths, workers=workers)
    return {
        "papers": timed(lambda: the_papers_way(sample, scratch)) * len(paths) / len(sample),
        "cold": timed(features),
        "warm": timed(features),
        "hashes cold": timed(hashes),
        "hashes warm": timed(hashes),
    }


def the_papers_way(paths: Sequence[Path], scratch: Path) -> np.ndarray:
    """Extract one file after another into CSV files and read them back, (n_clips, 215, 39)."""
    tables = [scratch / f"{index}.csv" for index in range(len(paths))]
    for path, table in zip(paths, tables, strict=True):
        np.savetxt(table, extract_with_librosa(path), delimiter=",")
    return np.stack([np.loadtxt(table, delimiter=",") for table in tables])


def extract_with_librosa(path: Path) -> np.ndarray:
    import librosa

    waveform, rate = librosa.load(path, sr=22_050)
    return librosa.feature.mfcc(y=fit_length(waveform, SPEC.n_samples), sr=rate, n_mfcc=39).T


def largest_difference(paths: Sequence[Path]) -> float:
    """Return the largest difference of serzoo's coefficients from librosa's (-850 to 200)."""
    return max(
        float(np.abs(extract(audio.read(path, 22_050)[0], SPEC) - extract_with_librosa(path)).max()) for path in paths
    )


def time_parts(paths: Sequence[Path], scratch: Path, repeats: int) -> dict[str, dict[str, float]]:
    """Return milliseconds of processor time per clip, of each step of serzoo and of the libraries alone."""
    import scipy.fft
    import soxr
    from threadpoolctl import threadpool_limits

    store = FeatureCache(scratch / "parts")
    sounds = [audio.read(path) for path in paths]
    at_target = [audio.resample(sound, rate, SPEC.sample_rate) for sound, rate in sounds]
    frames = [np.zeros((-(-len(clip) // SPEC.hop_length) + 3, SPEC.n_fft), np.float32) for clip in at_target]
    buffers = [np.empty((audio.probe(path).n_samples, audio.probe(path).channels), np.int16) for path in paths]
    contents = [path.read_bytes() for path in paths]
    entry = io.BytesIO()
    np.save(entry, extract(at_target[0], SPEC))
    kept, target = entry.getvalue(), scratch / "written"

    steps: dict[str, list[Callable[[], object]]] = {
        "read header, decode": [partial(audio.read, path) for path in paths],
        "resample": [partial(audio.resample, sound, rate, SPEC.sample_rate) for sound, rate in sounds],
        "MFCC": [partial(extract, clip, SPEC) for clip in at_target],
        "from an empty cache": [store.clear, *(partial(store.clip, path, SPEC) for path in paths)],
        "from a full cache": [partial(store.clip, path, SPEC) for path in paths],
        "librosa.load": [partial(load_with_librosa, path) for path in paths],
        "librosa.load, mfcc": [partial(extract_with_librosa, path) for path in paths],
        "CSV and back": [partial(through_csv, scratch / "one.csv")] * len(paths),
    }
    floor: dict[str, list[Callable[[], object]]] = {
        "SHA-256": [partial(hashlib.sha256, content) for content in contents],
        "libsndfile": [partial(decode_into, path, buffer) for path, buffer in zip(paths, buffers, strict=True)],
        "soxr": [partial(soxr.resample, sound, rate, SPEC.sample_rate, "HQ") for sound, rate in sounds],
        "Fourier transforms": [partial(scipy.fft.rfft, one) for one in frames],
        "write": [partial(target.write_bytes, kept) for _ in paths],
    }
    with threadpool_limits(1):
        return {
            name: {
                step: median(processor_time(calls) for _ in range(repeats)) * 1000 / len(paths)
                for step, calls in group.items()
            }
            for name, group in {"serzoo": steps, "floor": floor}.items()
        }


def load_with_librosa(path: Path) -> np.ndarray:
    import librosa

    return librosa.load(path, sr=22_050)[0]


def through_csv(table: Path) -> np.ndarray:
    np.savetxt(table, np.full((SPEC.n_frames or 0, SPEC.n_mfcc), -12.345678), delimiter=",")
    return np.loadtxt(table, delimiter=",")


def decode_into(path: Path, buffer: np.ndarray) -> None:
    with soundfile.SoundFile(str(path)) as file:
        file.read(out=buffer)


def processor_time(calls: Sequence[Callable[[], object]]) -> float:
    """Return the processor seconds of this process; unlike elapsed time, without those of other processes."""
    start = time.process_time()
    for call in calls:
        call()
    return time.process_time() - start


def measure_memory(n_files: int, scratch: Path) -> dict[str, float]:
    """Return time and peak memory of filling the cache from ``n_files`` synthetic recordings, twice."""
    folder, cache = scratch / f"{n_files} files", scratch / f"{n_files} features"
    make_up(folder, n_files)
    command = (__file__, "--fill", folder, cache, n_files)
    (seconds, before, peak), (seconds_again, before_again, peak_again) = run_apart(*command), run_apart(*command)
    return {
        "files": n_files,
        "s": seconds,
        "MB before": before,
        "MB": peak,
        "s again": seconds_again,
        "MB before again": before_again,
        "MB again": peak_again,
    }


def make_up(folder: Path, n_files: int) -> None:
    """Write 0.1-second recordings with different samples, a thousand to a folder."""
    rng = np.random.default_rng(0)
    content = io.BytesIO()
    soundfile.write(content, np.zeros(800, np.int16), 8000, format="WAV")
    header = content.getvalue()[: -2 * 800]
    for index in range(n_files):
        path = made_up(folder, index)
        if index % 1000 == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(header + rng.integers(-3000, 3000, 800, np.int16).astype("<i2").tobytes())


def made_up(folder: Path, index: int) -> Path:
    return folder / f"{index // 1000}" / f"{index}.wav"


def fill_made_up(folder: Path, cache: Path, n_files: int) -> tuple[float, float, float]:
    """Return the seconds, and the peak memory in MB after a hundred clips and after all."""
    paths = [str(made_up(folder, index)) for index in range(n_files)]
    store = FeatureCache(cache)
    start = time.perf_counter()
    store.fill(paths[:100], TINY, progress=False)
    before = peak_memory()
    store.fill(paths, TINY, progress=False)
    return time.perf_counter() - start, before, peak_memory()


def print_table(results: dict[str, Any]) -> None:
    rounds, parts = results["rounds"], results["parts"]
    machine = results["machine"]
    print(f"{results['files']} files ({', '.join(results['formats'])}), {len(rounds)} repeats, {results['date']}")
    print(f"{machine['processor']}, {machine['cores']} core(s), load {machine['load'][0]:.1f}\n")
    print("seconds, median                 papers / it")
    for name in rounds[0]:
        ratio = median(one["papers"] / one[name] for one in rounds)
        note = f" (scaled from {results['sample']} files)" if name == "papers" else ""
        print(f"{name:16} {median(one[name] for one in rounds):12.2f} {ratio:12.1f}{note}")
    print(f"largest difference from librosa's coefficients: {results['difference']:.1e}\n")
    print("ms of one processor per clip")
    for name, group in parts.items():
        for step, milliseconds in group.items():
            print(f"{name:8} {step:24} {milliseconds:8.3f}")
    floor = sum(parts["floor"].values())
    ratio = parts["serzoo"]["from an empty cache"] / floor
    print(f"{'floor':8} {'sum':24} {floor:8.3f}   empty cache / floor: {ratio:.2f}\n")
    print_memory(results["memory"])


def print_memory(rows: Sequence[dict[str, float]]) -> None:
    print("made-up files   s, empty cache   peak MB   after 100   s, full cache   peak MB   after 100")
    for row in rows:
        print(
            f"{row['files']:13,} {row['s']:16.1f} {row['MB']:9.1f} {row['MB before']:11.1f}"
            f" {row['s again']:15.1f} {row['MB again']:9.1f} {row['MB before again']:11.1f}"
        )


if __name__ == "__main__":
    main()
