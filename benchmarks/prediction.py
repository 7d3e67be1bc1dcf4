"""From a recording to its label: serzoo against a plain program, exports against the model, and start-up.

    python benchmarks/prediction.py --out results.json
    python benchmarks/prediction.py --clip recording.wav --only latency

The model is TIM-Net for MFCCs of 110,000 samples at 22,050 Hz, with random weights; the times do not depend on them.
The plain program processes one file after another: ``librosa.load``, the clip padded or cut to 110,000 samples,
``librosa.feature.mfcc``, ``keras.Model.predict``. Recordings are 48 kHz, 16 bits, 3 to 4 s of noise of varying
loudness, unless ``--clip`` names one.

- latency: one file, warm, in ms, after ``Classifier.warm_up`` and without it, and its parts: reading, resampling, MFCC
  and network, each separately. The floor is the time of the libraries: libsndfile, soxr, SciPy's Fourier transforms of
  the frames, and the fastest form of the network, the LiteRT file.
- folder: ``Classifier.predict`` of a folder, in times real time; the plain program is timed on some of the files.
- exports: predictions from one waveform and from its features, by the model (``.predict`` and ``.predict_on_batch``),
  the SavedModel and the LiteRT file.
- startup: whole processes, next to that of Python alone. Bytecode is compiled, as in an installation.

Rounds are interleaved: each times everything once, so that other work on the machine affects all alike. Next to the
elapsed time is the processor time of this process, without that of other processes; with several threads it is larger.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np
import soundfile
from measuring import machine, timed

RATE = 48_000
N_CLASSES = 8
Times = dict[str, list[float]]
PARTS = ("latency", "folder", "exports", "startup")
STARTS = {"python -c pass": ["-c", "pass"], "serzoo --help": ["--help"], "serzoo list": ["list"]}
RUN = "import sys; from serzoo.cli import main; sys.argv[0] = 'serzoo'; main()"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path, help="recording for latency; default: made up")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="default: all")
    parser.add_argument("--repeats", type=int, default=50, help="rounds of latency and exports; default: 50")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the folder; default: 3")
    parser.add_argument("--starts", type=int, default=15, help="rounds of the start-up; default: 15")
    parser.add_argument("--files", type=int, default=1000, help="clips in the folder; default: 1000")
    parser.add_argument("--sample", type=int, default=50, help="clips that the user's way is timed on; default: 50")
    parser.add_argument("--scratch", type=Path, help="folder for what is made up; default: the system's")
    parser.add_argument("--out", type=Path, help="JSON file to write; default: none")
    parser.add_argument("--quick", action="store_true", help="few rounds, 40 clips")
    options = parser.parse_args()
    if options.quick:
        options.repeats, options.rounds, options.starts, options.files, options.sample = 3, 1, 2, 40, 4
    results: dict[str, Any] = {
        "machine": machine(),
        "date": time.strftime("%Y-%m-%d"),
    }
    measures = {"latency": measure_latency, "folder": measure_folder, "exports": measure_exports}
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        if "startup" in options.only:
            results["startup"] = measure_startup(options.starts, Path(scratch))
        for name in options.only:
            if name in measures:
                results[name] = measures[name](options, Path(scratch))
    print_table(results)
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n")


def classifier() -> Any:
    import keras

    import serzoo
    from serzoo.features.spec import MFCCSpec

    keras.utils.set_random_seed(1)
    names = [f"class {number}" for number in range(N_CLASSES)]
    return serzoo.Classifier(serzoo.build("timnet", class_names=names, feature_spec=MFCCSpec(n_samples=110_000)))


def measure_latency(options: argparse.Namespace, scratch: Path) -> dict[str, Times]:
    """Return milliseconds, one per round: both ways, serzoo's parts, and their floors."""
    import scipy.fft
    import soxr

    from serzoo.data import audio
    from serzoo.features.extract import extract
    from serzoo.features.threads import single_threaded_blas

    path = options.clip or make_up(scratch / "clip", 1)[0]
    subject = classifier()
    spec = subject.feature_spec
    sound, rate = audio.read(path)
    resampled = audio.resample(sound, rate, spec.sample_rate)
    features = extract(resampled, spec)[None]
    frames = np.zeros((-(-len(resampled) // spec.hop_length) + 3, spec.n_fft), np.float32)
    lite, warmed = exported(subject, scratch / "latency litert", "litert")[1], classifier()
    warmed.warm_up()
    with single_threaded_blas():
        return rounds(
            options.repeats,
            {
                "serzoo": partial(warmed.predict, path),
                "serzoo without warm_up": partial(subject.predict, path),
                "user's": partial(users_way, path, subject),
                "part: read": partial(audio.read, path),
                "part: resample": partial(audio.resample, sound, rate, spec.sample_rate),
                "part: MFCC": partial(extract, resampled, spec),
                "part: network": partial(warmed._for_one_clip.predict_on_batch, features),
                "part: network without warm_up": partial(subject.network.predict_on_batch, features),
                "floor: libsndfile": partial(soundfile.read, path, dtype="int16"),
                "floor: soxr": partial(soxr.resample, sound, rate, spec.sample_rate, "HQ"),
                "floor: Fourier": partial(scipy.fft.rfft, frames),
                "floor: network": partial(lite, features),
            },
        )


def users_way(path: Path, subject: Any) -> str:
    """Return the label that the plain program predicts."""
    import librosa

    from serzoo.features.reference import fit_length

    spec = subject.feature_spec
    waveform, rate = librosa.load(path, sr=spec.sample_rate)
    mfcc = librosa.feature.mfcc(y=fit_length(waveform, spec.n_samples), sr=rate, n_mfcc=spec.n_mfcc)
    return subject.class_names[int(subject.model.predict(mfcc.T[None], verbose=0).argmax())]


def measure_folder(options: argparse.Namespace, scratch: Path) -> dict[str, Times]:
    """Return times real time, one per round, of both ways, by elapsed and by processor time."""
    paths = make_up(scratch / "folder", options.files)
    seconds = [soundfile.info(path).duration for path in paths]
    subject, sample = classifier(), paths[: options.sample]
    for traced in (paths[0], paths[:32], paths[:33]):  # the network is traced for one clip and for many
        subject.predict(traced)
    users_way(paths[0], subject)
    found = rounds(
        options.rounds,
        {
            "serzoo": partial(subject.predict, scratch / "folder"),
            "user's": lambda: [users_way(path, subject) for path in sample],
        },
        warm=0,
    )
    audio_seconds = {"serzoo": sum(seconds), "user's": sum(seconds[: len(sample)])}
    return {
        name: {kind: [1000 * audio_seconds[name] / value for value in values] for kind, values in times.items()}
        for name, times in found.items()
    }


def measure_exports(options: argparse.Namespace, scratch: Path) -> dict[str, Times]:
    """Return milliseconds, one per round, of every form's prediction from a waveform and from its features."""
    import keras

    from serzoo.features.extract import extract
    from serzoo.features.frontend import front_end

    subject = classifier()
    spec = subject.feature_spec
    noise = np.random.default_rng(0).normal(0, 0.1, (1, int(3.5 * spec.sample_rate))).astype(np.float32)
    features = extract(noise[0], spec)[None]
    waveforms = keras.Input((None,))
    whole = keras.Model(waveforms, subject.network(front_end(spec)(waveforms)))
    ways: dict[str, Callable[[], object]] = {}
    for given, model, values in (("waveform", whole, noise), ("features", subject.network, features)):
        ways[f"{given}: Keras .predict"] = partial(model.predict, values, verbose=0)
        ways[f"{given}: Keras .predict_on_batch"] = partial(model.predict_on_batch, values)
    for form, title in (("saved_model", "SavedModel"), ("litert", "LiteRT, 1 thread")):
        by_waveform, by_features = exported(subject, scratch / form, form)
        ways[f"waveform: {title}"] = partial(by_waveform, noise)
        ways[f"features: {title}"] = partial(by_features, features)
    return rounds(options.repeats, dict(sorted(ways.items(), reverse=True)))


def exported(subject: Any, folder: Path, form: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Export the model; return the functions that predict from a waveform, and those that predict from features."""
    import tensorflow as tf

    import serzoo
    from serzoo.exporters import litert

    serzoo.export(subject, folder, format=form)
    if form == "litert":
        runners = litert.runners(folder / litert.FILE)
        return runners["serving_default"], runners["features"]
    loaded = tf.saved_model.load(str(folder))
    ask = loaded.signatures
    return (
        lambda values: (loaded, ask["serving_default"](waveform=tf.constant(values))["probabilities"].numpy())[1],
        lambda values: (loaded, ask["features"](features=tf.constant(values))["probabilities"].numpy())[1],
    )


def measure_startup(repeats: int, scratch: Path) -> dict[str, Times]:
    """Return milliseconds, one per round, of whole processes."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(scratch / "bytecode")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def start(words: list[str]) -> None:
        command = words if words[0] == "-c" else ["-c", RUN, *words]
        subprocess.run([sys.executable, *command], env=environment, check=True, stdout=subprocess.DEVNULL)

    return rounds(repeats, {name: partial(start, words) for name, words in STARTS.items()}, warm=1)


def rounds(repeats: int, ways: Mapping[str, Callable[[], object]], warm: int = 3) -> dict[str, Times]:
    """Return the milliseconds of every way, one per round; each round times each way once."""
    for _ in range(warm):
        for way in ways.values():
            way()
    found: dict[str, Times] = {name: {"clock": [], "processor": []} for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.process_time()
            found[name]["clock"].append(1000 * timed(way))
            found[name]["processor"].append(1000 * (time.process_time() - start))
    return found


def make_up(folder: Path, n_files: int) -> list[Path]:
    """Write recordings of noise of varying loudness and return their paths in order."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1, 10 * RATE).astype(np.float32)
    paths = [folder / f"{index:04}.wav" for index in range(n_files)]
    for path in paths:
        first, length = rng.integers(6 * RATE), rng.integers(3 * RATE, 4 * RATE)
        clip = noise[first : first + length] * np.hanning(length)
        soundfile.write(path, clip, RATE, subtype="PCM_16")
    return paths


def print_table(results: Mapping[str, Any]) -> None:
    machine = results["machine"]
    print(f"{machine['processor']}, {machine['cores']} core(s), load {machine['load'][0]:.1f}, {results['date']}")
    for part in PARTS:
        if part not in results:
            continue
        unit = "times real time" if part == "folder" else "ms"
        print(f"\n{part + ', ' + unit:36} {'median':>8} {'best':>8} {'p95':>8} {'processor':>10}")
        for name, times in results[part].items():
            values, own = times["clock"], f"{median(times['processor']):10.2f}" if part != "startup" else ""
            best, worst = (max(values), 5) if part == "folder" else (min(values), 95)
            print(f"{name:36} {median(values):8.2f} {best:8.2f} {np.percentile(values, worst):8.2f} {own}")
    for part in ("latency", "folder"):
        if part in results:
            pairs = zip(results[part]["user's"]["clock"], results[part]["serzoo"]["clock"], strict=True)
            ratios = [user / own if part == "latency" else own / user for user, own in pairs]
            print(f"\n{part}: serzoo is {median(ratios):.1f} times as fast, median of the rounds' ratios")


if __name__ == "__main__":
    main()
