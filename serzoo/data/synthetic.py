"""A made-up corpus of speech-like clips, so that everything runs without recordings.

A voice reads nonsense syllables: a glottal source (Klatt and Klatt, 1990) with jitter, shimmer and
breath goes through moving formants. The emotion sets the prosody: pitch, its range and final
contour, tempo, energy, brightness, breath, jitter and tremor, roughly as reviews of vocal expression
have it (Banse and Scherer, 1996; Juslin and Laukka, 2003). Each speaker adds habits of their own, so
that an unknown speaker is harder than a known one.

It exercises code and claims nothing about real speech: a score on it says only that a model learns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np

from serzoo.data.corpora.corpus import CORPORA, Corpus, Recording
from serzoo.data.corpora.ravdess import Ravdess
from serzoo.data.manifest import Manifest
from serzoo.errors import DataError, unknown_name
from serzoo.files import local_path, moved_into_place
from serzoo.labels import FEMALE, MALE

VERSION = 1
"""Raised whenever the same arguments give other clips; part of the name under which :func:`load` keeps them."""


class Prosody(NamedTuple):
    """How something is said.

    Args:
        pitch: mean pitch relative to the voice's own, in semitones.
        pitch_range: size of pitch movements, 1 in neutral speech.
        final_rise: pitch movement at the end of the clip, in semitones.
        tempo: speaking rate, 1 in neutral speech.
        energy: level in dB relative to neutral speech.
        brightness: spectral tilt in dB per octave relative to neutral speech.
        breath: level of the breath noise in dB relative to neutral speech.
        jitter: standard deviation of the glottal period, in percent.
        tremor: depth of a 6.5 Hz modulation of the pitch, in semitones.
    """

    pitch: float = 0.0
    pitch_range: float = 1.0
    final_rise: float = -1.5
    tempo: float = 1.0
    energy: float = 0.0
    brightness: float = 0.0
    breath: float = 0.0
    jitter: float = 0.6
    tremor: float = 0.0


PROSODIES: Mapping[str, Prosody] = {
    "angry": Prosody(3.0, 1.6, -3.0, 1.15, 8.0, 2.5, -3.0, 1.6, 0.0),
    "boredom": Prosody(-1.5, 0.5, -1.5, 0.78, -3.0, -1.0, 2.0, 0.8, 0.0),
    "calm": Prosody(-1.0, 0.75, -1.5, 0.88, -3.5, -1.2, 3.0, 0.5, 0.0),
    "disgust": Prosody(-1.0, 1.1, -4.0, 0.82, 1.0, 0.8, 0.0, 2.4, 0.0),
    "excited": Prosody(5.0, 2.0, 1.0, 1.2, 6.0, 1.8, 0.0, 0.9, 0.0),
    "fear": Prosody(4.5, 0.8, 0.5, 1.25, 0.5, 0.0, 5.0, 2.0, 0.7),
    "frustrated": Prosody(1.0, 1.3, -2.5, 0.95, 4.0, 1.5, 0.0, 1.4, 0.0),
    "happy": Prosody(3.5, 1.8, 1.0, 1.1, 4.5, 1.3, 0.0, 0.7, 0.0),
    "neutral": Prosody(),
    "sad": Prosody(-1.8, 0.55, -2.5, 0.76, -5.0, -2.2, 5.0, 1.2, 0.15),
    "surprise": Prosody(4.0, 2.2, 6.0, 1.02, 3.0, 0.8, 1.0, 0.7, 0.0),
}
"""How each emotion is spoken on average; :func:`synthesize` varies it by speaker and take."""

_HABIT = Prosody(1.0, 0.25, 0.8, 0.06, 1.5, 0.6, 1.5, 0.3, 0.1)
"""Standard deviations of how a speaker's version of an emotion differs from the average."""
_VARIATION = Prosody(0.7, 0.15, 0.7, 0.05, 1.2, 0.4, 1.2, 0.25, 0.08)
"""Standard deviations of how a speaker's takes of an emotion differ from each other."""


class _Phone(NamedTuple):
    """Formants in Hz for an average man, source levels in 0..1 and duration in seconds at neutral tempo."""

    formants: tuple[float, float, float, float]
    voice: float
    noise: float
    duration: float


_VOWELS = (
    _Phone((730, 1250, 2500, 3500), 1.0, 0.0, 0.15),  # a
    _Phone((450, 1950, 2550, 3550), 0.9, 0.0, 0.14),  # e
    _Phone((290, 2250, 2950, 3650), 0.8, 0.0, 0.13),  # i
    _Phone((460, 850, 2450, 3450), 0.9, 0.0, 0.14),  # o
    _Phone((320, 780, 2300, 3400), 0.8, 0.0, 0.13),  # u
)
_CONSONANTS = (
    _Phone((260, 1100, 2200, 3300), 0.35, 0.0, 0.07),  # m
    _Phone((270, 1600, 2600, 3500), 0.35, 0.0, 0.06),  # n
    _Phone((360, 1150, 2700, 3400), 0.5, 0.0, 0.06),  # l
    _Phone((320, 1600, 2600, 3600), 0.0, 1.0, 0.10),  # s
    _Phone((300, 1300, 2400, 3400), 0.2, 0.4, 0.08),  # v
    _Phone((300, 1700, 2700, 3700), 0.0, 0.15, 0.07),  # t
    _Phone((250, 900, 2300, 3300), 0.05, 0.05, 0.07),  # b
)
_SILENCE = _Phone((500, 1500, 2500, 3500), 0.0, 0.0, 0.12)
_BANDWIDTHS = np.array([80.0, 110.0, 160.0, 250.0])  # of the formants, Hz
_AMPLITUDES = np.array([1.0, 0.7, 0.5, 0.4])
_FRAME_SHIFT = 0.016  # seconds; formants and levels are set once per frame
_LEVEL = 0.55  # brings neutral speech to an RMS of about -28 dB of full scale
_NOISE_FLOOR = 2e-4


class _Voice(NamedTuple):
    """What a speaker's voice is like: pitch in Hz, formant scale, expressiveness, and own level of prosody."""

    pitch: float
    tract: float
    expressiveness: float
    own: Prosody


class _Tracks(NamedTuple):
    """What the voice does over time; one row per frame."""

    pitch: np.ndarray
    formants: np.ndarray
    voice: np.ndarray
    noise: np.ndarray


def synthesize(
    label: str, speaker: str, gender: str, text: str, take: int = 0, seed: int = 0, sample_rate: int = 16_000
) -> np.ndarray:
    """Make one clip. The same arguments give the same samples, whatever else is made.

    Args:
        label: an emotion of :data:`PROSODIES`.
        speaker: the speaker's name, which with gender and seed decides on the voice.
        gender: :data:`serzoo.labels.MALE` or :data:`serzoo.labels.FEMALE`.
        text: the text's name, which decides on the syllables.
        take: which recording of the same, 0 or above.
        seed: which corpus, 0 or above.
        sample_rate: in Hz, 8000 or above.

    Returns:
        The waveform, shape (n_samples,), float32, -1..1; some 1 to 4 seconds long.

    Raises:
        UnknownNameError: nobody knows how to speak with this emotion.
        DataError: the gender is neither of the two, the sample rate too low for speech or the seed negative.
    """
    if label not in PROSODIES:
        raise unknown_name("emotion", label, PROSODIES)
    if gender not in (MALE, FEMALE):
        raise DataError(f"A synthetic voice is {MALE!r} or {FEMALE!r}, not {gender!r}.")
    if sample_rate < 8000:
        raise DataError(f"The sample rate is {sample_rate} Hz; synthetic speech needs 8000 Hz or more.")
    if seed < 0:
        raise DataError(f"The seed of a synthetic corpus is {seed}; give 0 or above.")
    rng = _rng(seed, "take", label, speaker, gender, text, str(take))
    voice = _voice(speaker, gender, seed)
    prosody = _prosody(label, speaker, voice, rng, seed)
    tracks = _speak(_syllables(text, seed), voice, prosody, rng)
    noise = rng.standard_normal((len(tracks.pitch) - 1) * _hop(sample_rate) + 1, dtype=np.float32)
    source = _glottal_source(tracks, noise[1:], prosody, sample_rate, rng)
    waveform = _through_formants(source, tracks.formants, prosody.brightness, sample_rate)
    waveform += _friction(tracks, noise, sample_rate)
    waveform *= _LEVEL * 10 ** (prosody.energy / 20)
    return (waveform / max(1.0, np.abs(waveform).max() / 0.99)).astype(np.float32)


# Who speaks, what and how ---------------------------------------------------------------------------------------------


def _rng(seed: int, *names: str) -> np.random.Generator:
    return np.random.default_rng([seed, *"\0".join(names).encode()])


def _voice(speaker: str, gender: str, seed: int) -> _Voice:
    rng = _rng(seed, "voice", speaker, gender)
    pitch, tract = (115.0, 1.0) if gender == MALE else (200.0, 1.17)
    return _Voice(
        pitch=pitch * 2 ** (rng.normal(0.0, 2.0) / 12),
        tract=tract * rng.uniform(0.94, 1.06),
        expressiveness=rng.uniform(0.7, 1.15),
        own=Prosody(
            tempo=rng.normal(0.0, 0.05), energy=rng.normal(0.0, 1.5), brightness=rng.normal(0.0, 0.8),
            breath=rng.normal(0.0, 1.5), jitter=0.0, pitch_range=0.0, final_rise=0.0,
        ),
    )  # fmt: skip


def _prosody(label: str, speaker: str, voice: _Voice, rng: np.random.Generator, seed: int) -> Prosody:
    neutral, average = np.array(Prosody()), np.array(PROSODIES[label])
    habit = _rng(seed, "habit", speaker, label).standard_normal(len(neutral)) * _HABIT
    variation = rng.standard_normal(len(neutral)) * _VARIATION
    values = Prosody(*(neutral + voice.expressiveness * (average - neutral) + voice.own + habit + variation))
    return values._replace(
        pitch_range=max(values.pitch_range, 0.2), tempo=min(max(values.tempo, 0.6), 1.5),
        jitter=max(values.jitter, 0.1), tremor=max(values.tremor, 0.0),
    )  # fmt: skip


def _syllables(text: str, seed: int) -> list[tuple[_Phone, float]]:
    """Return the phones of a text, each with its accent (0..1), between two silences."""
    rng = _rng(seed, "text", text)
    n_syllables = int(rng.integers(6, 9))
    accents = np.where(np.arange(n_syllables) % 2 == rng.integers(2), 1.0, 0.35)
    phones = [(_SILENCE, 0.0)]
    for accent in accents:
        phones.append((_CONSONANTS[rng.integers(len(_CONSONANTS))], accent))
        phones.append((_VOWELS[rng.integers(len(_VOWELS))], accent))
    return [*phones, (_SILENCE, 0.0)]


def _speak(
    syllables: Sequence[tuple[_Phone, float]], voice: _Voice, prosody: Prosody, rng: np.random.Generator
) -> _Tracks:
    """Lay the phones out in time: targets are held in the middle of a phone and glided between."""
    n_phones = len(syllables)
    accents = np.array([accent for _, accent in syllables])
    durations = np.array([phone.duration for phone, _ in syllables]) * (1 + 0.25 * accents) / prosody.tempo
    durations[-2] *= 1.4  # the last vowel is drawn out
    durations *= np.exp(0.08 * rng.standard_normal(n_phones))
    ends = np.cumsum(durations)
    starts = ends - durations
    times = np.arange(0.0, ends[-1], _FRAME_SHIFT)

    def track(targets: np.ndarray, glide: float = 0.3) -> np.ndarray:
        knots = np.stack([starts + glide * durations, ends - glide * durations], axis=1).ravel()
        return np.interp(times, knots, np.repeat(targets, 2))

    formants = np.array([phone.formants for phone, _ in syllables]) * voice.tract
    formants *= np.exp(0.03 * rng.standard_normal(formants.shape))
    emphasis = 10 ** ((accents - 0.5) * 4 * prosody.pitch_range / 20)
    position = np.clip((times - ends[0]) / (starts[-1] - ends[0]), 0.0, 1.0)
    semitones = _melody(position, track(accents), prosody) + _tremor(times, prosody, rng)
    semitones += track(0.4 * rng.standard_normal(n_phones))
    return _Tracks(
        pitch=voice.pitch * 2 ** (semitones / 12),
        formants=np.stack([track(column) for column in formants.T], axis=1),
        voice=track(np.array([phone.voice for phone, _ in syllables]) * emphasis, glide=0.15),
        noise=track(np.array([phone.noise for phone, _ in syllables]), glide=0.15),
    )


def _melody(position: np.ndarray, accent: np.ndarray, prosody: Prosody) -> np.ndarray:
    """Return the pitch in semitones over the voice's own: declination, accents and the final movement."""
    declination = 1.5 * (0.5 - position)
    final = np.clip((position - 0.7) / 0.3, 0.0, 1.0) ** 2
    return prosody.pitch + prosody.pitch_range * (declination + 3.0 * (accent - 0.5)) + prosody.final_rise * final


def _tremor(times: np.ndarray, prosody: Prosody, rng: np.random.Generator) -> np.ndarray:
    return prosody.tremor * np.sin(2 * np.pi * (6.5 * times + rng.uniform()))


# From there to samples ------------------------------------------------------------------------------------------------


def _hop(sample_rate: int) -> int:
    return round(_FRAME_SHIFT * sample_rate)


def _glottal_source(
    tracks: _Tracks, noise: np.ndarray, prosody: Prosody, sample_rate: int, rng: np.random.Generator
) -> np.ndarray:
    """Return the flow derivative of the glottis with its breath noise, (n_frames - 1) * hop samples."""
    phase = _jittered_phase(tracks.pitch, prosody.jitter / 100, sample_rate, rng)
    cycle = phase.astype(np.intp)
    open_phase = (phase - cycle) / np.float32(0.65)
    # Klatt and Klatt (1990): the flow is t^2 - t^3 while the glottis is open; this is its derivative.
    pulses = np.where(open_phase < 1, open_phase * (2 - 3 * open_phase), np.float32(0))
    shimmer = 1 + 0.05 * rng.standard_normal(cycle[-1] + 1, dtype=np.float32)
    breath = np.float32(0.03 * 10 ** (prosody.breath / 20))
    return _per_sample(tracks.voice, sample_rate) * (pulses * shimmer[cycle] + breath * noise)


def _friction(tracks: _Tracks, noise: np.ndarray, sample_rate: int) -> np.ndarray:
    """Return the noise of consonants, which is bright, over the noise floor of a quiet room."""
    return np.diff(noise) * (np.float32(0.04) * _per_sample(tracks.noise, sample_rate) + np.float32(_NOISE_FLOOR))


def _jittered_phase(pitch: np.ndarray, jitter: float, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Count glottal cycles sample by sample, each a little longer or shorter than the pitch says."""
    hop = _hop(sample_rate)
    frame_times = np.arange(len(pitch)) * (hop / sample_rate)
    phase = np.concatenate([[0.0], np.cumsum((pitch[1:] + pitch[:-1]) / 2) * (hop / sample_rate)])
    cycles = np.arange(int(phase[-1]) + 2)
    periods = np.diff(np.interp(cycles, phase, frame_times))
    periods[-1] = 1 / pitch[-1]
    closures = np.concatenate([[0.0], np.cumsum(periods * (1 + jitter * rng.standard_normal(len(periods))))])
    times = np.arange((len(pitch) - 1) * hop) / sample_rate
    return np.interp(times, closures * max(1.0, times[-1] / closures[-1]), cycles).astype(np.float32)


def _through_formants(source: np.ndarray, formants: np.ndarray, brightness: float, sample_rate: int) -> np.ndarray:
    """Filter each frame by its formants: overlapping sine windows, a gain per frequency, overlap-add."""
    hop = _hop(sample_rate)
    blocks = np.concatenate([np.zeros(hop, np.float32), source, np.zeros(hop, np.float32)]).reshape(-1, hop)
    window = np.sin(np.pi * (np.arange(2 * hop) + 0.5) / (2 * hop)).astype(np.float32)
    spectra = np.fft.rfft(np.concatenate([blocks[:-1], blocks[1:]], axis=1) * window)
    spectra *= _gains(formants, brightness, np.fft.rfftfreq(2 * hop, 1 / sample_rate))
    frames = np.fft.irfft(spectra, 2 * hop) * window
    return (frames[1:, :hop] + frames[:-1, hop:]).ravel()


def _gains(formants: np.ndarray, brightness: float, frequencies: np.ndarray) -> np.ndarray:
    """Return parallel resonances times the tilt, shape (n_frames, n_frequencies)."""
    distance = (frequencies.astype(np.float32) - formants[:, :, None].astype(np.float32)) / (
        _BANDWIDTHS[:, None].astype(np.float32) / 2
    )
    resonances = np.einsum("k,nkf->nf", _AMPLITUDES.astype(np.float32), 1 / np.sqrt(1 + distance * distance))
    octaves = np.log2(np.maximum(frequencies, 100.0) / 500.0)
    return resonances * (10 ** (brightness * octaves / 20)).astype(np.float32)


def _per_sample(track: np.ndarray, sample_rate: int) -> np.ndarray:
    """Interpolate a track of n frames to (n - 1) * hop samples."""
    hop = _hop(sample_rate)
    start, step = track[:-1, None].astype(np.float32), np.diff(track)[:, None].astype(np.float32)
    return (start + step * (np.arange(hop, dtype=np.float32) / hop)).ravel()


# Corpora --------------------------------------------------------------------------------------------------------------


class SyntheticClip(NamedTuple):
    """A clip of a made-up corpus: its path below the root without suffix, what it is, and which take of it."""

    name: str
    recording: Recording
    take: int


def write_corpus(
    root: str | Path,
    corpus: str = "ravdess",
    n_speakers: int = 4,
    n_texts: int = 2,
    takes: int = 1,
    seed: int = 0,
    sample_rate: int = 16_000,
    class_names: Sequence[str] | None = None,
    fmt: str = "wav",
) -> Path:
    """Write a made-up corpus under the file names of a real one.

    The folder appears under its name only when it is complete.

    Args:
        root: the folder to make; it must not exist or be empty.
        corpus: whose file names to use; see :func:`plan_corpus`, also for the next three.
        n_speakers: how many speakers.
        n_texts: how many texts.
        takes: how often each speaker says each text with each emotion.
        seed: which corpus, 0 or above.
        sample_rate: in Hz, 8000 or above.
        class_names: emotions to write; None for all of the corpus.
        fmt: ``"wav"`` or ``"flac"``, both mono with 16 bits.

    Returns:
        ``root``.

    Raises:
        UnknownNameError: no such corpus or format, or an emotion that the corpus does not have.
        DataError: the folder is not empty, or the corpus's names cannot tell so many recordings apart.
    """
    clips = plan_corpus(corpus, n_speakers, n_texts, takes, class_names)
    if fmt not in ("wav", "flac"):
        raise unknown_name("audio format", fmt, ("wav", "flac"))
    target = local_path(root)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"{target} is there already; give a folder that does not exist or is empty.")
    try:
        with moved_into_place(target) as folder:
            for clip in clips:
                _write_clip(clip, folder / f"{clip.name}.{fmt}", seed, sample_rate)
            if corpus == "iemocap":
                _write_iemocap_labels(clips, folder)
    except OSError as error:
        raise DataError(f"{target} cannot be written ({error.strerror}); give another folder.") from None
    return target


def load(folder: str | Path | None = None, n_speakers: int = 8, takes: int = 4, seed: int = 0) -> Manifest:
    """Return the built-in corpus: eight emotions, two texts, RAVDESS's file names; 480 clips unless asked otherwise.

    The clips are made on the first call and found in ``folder`` on later ones.

    Args:
        folder: where to keep the clips, in a folder named after the other arguments; None for serzoo's cache.
        n_speakers: 1 to 24, men and women by turns.
        takes: 1 to 4 of each text; of neutral ones 2 at most.
        seed: which corpus, 0 or above.

    Raises:
        DataError: a number is out of range.
    """
    from serzoo.data.cache import default_folder

    parent = default_folder().parent if folder is None else local_path(folder)
    root = parent / f"synthetic-v{VERSION}-{n_speakers}x{takes}-seed{seed}"
    if not root.is_dir():
        try:
            write_corpus(root, "ravdess", n_speakers, n_texts=2, takes=takes, seed=seed)
        except DataError:
            if not root.is_dir():  # else another process was faster
                raise
    return replace(CORPORA.get("ravdess").load(root), corpus="synthetic")


def plan_corpus(
    corpus: str, n_speakers: int = 4, n_texts: int = 2, takes: int = 1, class_names: Sequence[str] | None = None
) -> list[SyntheticClip]:
    """Return which clips :func:`write_corpus` writes under which names.

    Args:
        corpus: casia, cremad, emodb, emovo, iemocap, ravdess, savee or tess.
        n_speakers: how many of the corpus's speakers, men and women by turns where it has both.
        n_texts: how many of its texts.
        takes: how often each speaker says each text with each emotion. RAVDESS has four (two normal,
            two strong; no strong neutral ones), EMO-DB six, IEMOCAP a hundred, the others one.
        class_names: emotions; None for all of the corpus.

    Raises:
        UnknownNameError: no such corpus, or an emotion that it does not have.
        DataError: the corpus's names cannot tell so many speakers, texts or takes apart.
    """
    if corpus not in _LAYOUTS:
        raise unknown_name("corpus with synthetic clips", corpus, _LAYOUTS)
    layout = _LAYOUTS[corpus]
    labels = layout.codes if class_names is None else class_names
    for label in labels:
        if label not in layout.codes:
            raise unknown_name(f"class of {corpus}", label, layout.codes)
    for what, wanted, there in (
        ("speakers", n_speakers, len(layout.speakers)),
        ("texts", n_texts, len(layout.texts)),
        ("takes", takes, layout.takes),
    ):
        if not 1 <= wanted <= there:
            raise DataError(f"A synthetic {corpus} has 1 to {there} {what}, not {wanted}.")
    return [
        SyntheticClip(
            layout.name(layout.codes[label], speaker, text, take), Recording(label, speaker, gender, text), take
        )
        for speaker, gender in list(layout.speakers.items())[:n_speakers]
        for label in labels
        for text in layout.texts[:n_texts]
        for take in range(min(takes, 2) if (corpus, label) == ("ravdess", "neutral") else takes)
    ]


def _write_clip(clip: SyntheticClip, path: Path, seed: int, sample_rate: int) -> None:
    import soundfile

    who = clip.recording
    waveform = synthesize(who.label, who.speaker, who.gender, who.text, clip.take, seed, sample_rate)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, waveform, sample_rate, subtype="PCM_16")


def _write_iemocap_labels(clips: Sequence[SyntheticClip], folder: Path) -> None:
    """Write the label file of each dialog, as IEMOCAP's ``EmoEvaluation`` folders have them."""
    lines: dict[Path, list[str]] = {}
    for clip in clips:
        session, _, _, dialog, utterance = clip.name.split("/")
        path = folder / session / "dialog" / "EmoEvaluation" / f"{dialog}.txt"
        start = 5.0 * len(lines.setdefault(path, ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]))
        code = _LAYOUTS["iemocap"].codes[clip.recording.label]
        lines[path].append(f"[{start:.4f} - {start + 4:.4f}]\t{utterance}\t{code}\t[2.5000, 2.5000, 2.5000]")
    for path, text in lines.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(text) + "\n")


# Names of files: the other way round than the parsers in serzoo.data.corpora ------------------------------------------


class _Layout(NamedTuple):
    """How a corpus names its recordings.

    Args:
        codes: what stands for each emotion.
        speakers: names with genders, by turns.
        texts: names of texts.
        takes: how many takes of the same a name can tell apart.
        name: makes the path, without suffix, from an emotion's code, speaker, text and take.
    """

    codes: dict[str, str]
    speakers: dict[str, str]
    texts: list[str]
    takes: int
    name: Callable[[str, str, str, int], str]


def _layout(
    codes: str, men: str, women: str, texts: str, takes: int, name: Callable[[str, str, str, int], str]
) -> _Layout:
    """Read a layout from lists of words; men and women take turns for as long as there are both."""
    genders = {**dict.fromkeys(men.split(), MALE), **dict.fromkeys(women.split(), FEMALE)}
    turns = [speaker for pair in zip_longest(men.split(), women.split()) for speaker in pair if speaker]
    speakers = {speaker: genders[speaker] for speaker in turns}
    return _Layout(dict(code.split(":") for code in codes.split()), speakers, texts.split(), takes, name)


def _ravdess_name(code: str, speaker: str, text: str, take: int) -> str:
    intensity, repetition = divmod(take, 2)
    return f"Actor_{speaker}/03-01-{code}-{intensity + 1:02d}-{text}-{repetition + 1:02d}-{speaker}"


def _iemocap_name(code: str, speaker: str, text: str, take: int) -> str:
    session, gender = speaker.removeprefix("Ses0").split("_")
    dialog = f"Ses0{session}F_{text}"
    turn = 100 * list(_LAYOUTS["iemocap"].codes.values()).index(code) + take
    return f"Session{session}/sentences/wav/{dialog}/{dialog}_{gender}{turn:03d}"


_LAYOUTS: Mapping[str, _Layout] = {
    "casia": _layout(
        codes="angry:angry fear:fear happy:happy neutral:neutral sad:sad surprise:surprise",
        men="wangzhe zhaozuoxiang",
        women="liuchanhg zhaoquanyin",
        texts="201 202 203 204 205 206 207 208 209 210",
        takes=1,
        name=lambda code, speaker, text, take: f"{speaker}/{code}/{text}",
    ),
    "cremad": _layout(
        codes="angry:ANG disgust:DIS fear:FEA happy:HAP neutral:NEU sad:SAD",
        men="1001 1005 1011 1014 1015 1016 1017 1019",
        women="1002 1003 1004 1006 1007 1008 1009 1010",
        texts="TIE IOM IWW TAI MTI IWL ITH DFA ITS TSI WSI",
        takes=1,
        name=lambda code, speaker, text, take: f"AudioWAV/{speaker}_{text}_{code}_XX",
    ),
    "emodb": _layout(
        codes="angry:W boredom:L disgust:E fear:A happy:F neutral:N sad:T",
        men="03 10 11 12 15",
        women="08 09 13 14 16",
        texts="a01 a02 a04 a05 a07 b01 b02 b03 b09 b10",
        takes=6,
        name=lambda code, speaker, text, take: f"wav/{speaker}{text}{code}{'abcdef'[take]}",
    ),
    "emovo": _layout(
        codes="angry:rab disgust:dis fear:pau happy:gio neutral:neu sad:tri surprise:sor",
        men="m1 m2 m3",
        women="f1 f2 f3",
        texts="b1 b2 b3 l1 l2 l3 l4 n1 n2 n3 n4 n5 d1 d2",
        takes=1,
        name=lambda code, speaker, text, take: f"EMOVO/{speaker}/{code}-{speaker}-{text}",
    ),
    "iemocap": _layout(
        codes="angry:ang happy:hap neutral:neu sad:sad",
        men="Ses01_M Ses02_M Ses03_M Ses04_M Ses05_M",
        women="Ses01_F Ses02_F Ses03_F Ses04_F Ses05_F",
        texts="script01_1 impro01 script01_2 impro02 script02_1 impro03 script02_2 impro04",
        takes=100,
        name=_iemocap_name,
    ),
    "ravdess": _layout(
        codes="angry:05 calm:02 disgust:07 fear:06 happy:03 neutral:01 sad:04 surprise:08",
        men="01 03 05 07 09 11 13 15 17 19 21 23",
        women="02 04 06 08 10 12 14 16 18 20 22 24",
        texts="01 02",
        takes=4,
        name=_ravdess_name,
    ),
    "savee": _layout(
        codes="angry:a disgust:d fear:f happy:h neutral:n sad:sa surprise:su",
        men="DC JE JK KL",
        women="",
        texts="01 02 03 04 05 06 07 08 09 10 11 12 13 14 15",
        takes=1,
        name=lambda code, speaker, text, take: f"AudioData/{speaker}/{code}{text}",
    ),
    "tess": _layout(
        codes="angry:angry disgust:disgust fear:fear happy:happy neutral:neutral sad:sad surprise:ps",
        men="",
        women="OAF YAF",
        texts="back bar base bath bean beg bite boat bone book",
        takes=1,
        name=lambda code, speaker, text, take: f"{speaker}_{code}/{speaker}_{text}_{code}",
    ),
}


class Synthetic(Corpus):
    """The built-in corpus among the others, so that recipes and the command line can name it."""

    name = "synthetic"
    title = "the synthetic corpus"
    class_names = Ravdess.class_names
    licence = "free: no recordings, made by serzoo on first use"
    source = "serzoo itself"
    layout = Ravdess.layout

    def parse(self, path: PurePath) -> Recording | None:
        """Read RAVDESS's file names."""
        return CORPORA.get("ravdess").parse(path)

    def default_root(self) -> Path:
        """Return serzoo's cache folder."""
        from serzoo.data.cache import default_folder

        return default_folder().parent

    def load(self, root: str | Path) -> Manifest:
        """Return the corpus of :func:`load`, which is made in ``root`` on first use."""
        return load(root)


CORPORA.register("synthetic", Synthetic())
