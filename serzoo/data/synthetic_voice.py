"""A synthetic voice that reads nonsense syllables with an emotion.

A glottal source (Klatt and Klatt, 1990) with jitter, shimmer and breath noise passes through moving formants. The
emotion sets the prosody: pitch, its range and final contour, tempo, energy, brightness, breath, jitter and tremor,
after reviews of vocal expression (Banse and Scherer, 1996; Juslin and Laukka, 2003). Each speaker differs from the
average, so that unseen speakers are harder than seen ones.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from serzoo.checks import check, integer, one_of
from serzoo.errors import DataError, unknown_name
from serzoo.labels import FEMALE, MALE


class Prosody(NamedTuple):
    """The prosody of an utterance.

    Args:
        pitch: mean pitch relative to the speaker's mean, in semitones.
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


class _Phone(NamedTuple):
    """Formants in Hz for an average man, source levels in 0..1 and duration in seconds at neutral tempo."""

    formants: list[float]
    voice: float
    noise: float
    duration: float


def _table(name: str) -> list[list[str]]:
    return list(csv.reader(Path(__file__).with_name(name).read_text().splitlines()))[1:]


_PROSODIES = {name: Prosody(*map(float, values)) for name, *values in _table("prosodies.csv")}
_HABIT, _VARIATION = (_PROSODIES.pop(f"deviation between {what}") for what in ("speakers", "takes"))
"""Standard deviations of an emotion's prosody."""

PROSODIES: Mapping[str, Prosody] = _PROSODIES
"""The average prosody of each emotion; :func:`synthesize` varies it by speaker and take."""

_VOWELS, _CONSONANTS, (_SILENCE,) = (
    [_Phone([*map(float, row[2:6])], *map(float, row[6:])) for row in _table("phones.csv") if row[0] == kind]
    for kind in ("vowel", "consonant", "silence")
)
_BANDWIDTHS = np.array([80, 110, 160, 250], np.float32)  # of the formants, Hz
_AMPLITUDES = np.array([1.0, 0.7, 0.5, 0.4], np.float32)
_FRAME_SHIFT = 0.016  # seconds; formants and levels are set once per frame
_LEVEL = 0.55  # brings neutral speech to an RMS of about -28 dB of full scale
_NOISE_FLOOR = 2e-4


class _Voice(NamedTuple):
    """A speaker: pitch in Hz, factor on formants, factor on the prosody of emotions, offset of all prosody."""

    pitch: float
    tract: float
    expressiveness: float
    own: Prosody


class _Tracks(NamedTuple):
    """Pitch in Hz, formants in Hz and source levels over time; one row per frame."""

    pitch: np.ndarray
    formants: np.ndarray
    voice: np.ndarray
    noise: np.ndarray


def synthesize(
    label: str, speaker: str, gender: str, text: str, take: int = 0, seed: int = 0, sample_rate: int = 16_000
) -> np.ndarray:
    """Return one clip; the same arguments always give the same samples.

    Args:
        label: an emotion of :data:`PROSODIES`.
        speaker: the speaker's name; with gender and seed it determines the voice.
        gender: :data:`serzoo.labels.MALE` or :data:`serzoo.labels.FEMALE`.
        text: the text's name; with the seed it determines the syllables.
        take: number of the recording among those with the same arguments, 0 or above.
        seed: of the corpus, 0 or above.
        sample_rate: in Hz, 8000 or above.

    Returns:
        The waveform, shape (n_samples,), float32, -1..1; about 1 to 4 seconds long.

    Raises:
        UnknownNameError: an unknown emotion.
        DataError: gender, sample rate or seed are out of range.
    """
    if label not in PROSODIES:
        raise unknown_name("emotion", label, PROSODIES)
    check("gender", gender, one_of((MALE, FEMALE)), DataError)
    check("sample_rate", sample_rate, integer(at_least=8000), DataError)
    check("seed", seed, integer(at_least=0), DataError)
    rng = _rng(seed, "take", label, speaker, gender, text, str(take))
    voice = _voice(speaker, gender, seed)
    prosody = _prosody(label, speaker, voice, rng, seed)
    tracks = _speak(_syllables(text, seed), voice, prosody, rng)
    noise = rng.standard_normal((len(tracks.pitch) - 1) * _hop(sample_rate) + 1, dtype=np.float32)
    source = _glottal_source(tracks, noise[1:], prosody, sample_rate, rng)
    waveform = _through_formants(source, tracks.formants, prosody.brightness, sample_rate)
    # the noise of consonants plus a room's noise floor; the difference of white noise makes it bright
    waveform += np.diff(noise) * (np.float32(0.04) * _per_sample(tracks.noise, sample_rate) + np.float32(_NOISE_FLOOR))
    waveform *= _LEVEL * 10 ** (prosody.energy / 20)
    return (waveform / max(1.0, np.abs(waveform).max() / 0.99)).astype(np.float32)


# Speaker, text and prosody --------------------------------------------------------------------------------------------


def _rng(seed: int, *names: str) -> np.random.Generator:
    # Seeded by the names themselves, so that a clip does not depend on which others are made, nor on their order.
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
    """Place the phones in time: each target holds in the middle of its phone, with glides between the phones."""
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
    declination = 1.5 * (0.5 - position)
    final = np.clip((position - 0.7) / 0.3, 0.0, 1.0) ** 2
    semitones = prosody.pitch + prosody.pitch_range * (declination + 3.0 * (track(accents) - 0.5))
    semitones += prosody.final_rise * final
    semitones += prosody.tremor * np.sin(2 * np.pi * (6.5 * times + rng.uniform()))
    semitones += track(0.4 * rng.standard_normal(n_phones))
    return _Tracks(
        pitch=voice.pitch * 2 ** (semitones / 12),
        formants=np.stack([track(column) for column in formants.T], axis=1),
        voice=track(np.array([phone.voice for phone, _ in syllables]) * emphasis, glide=0.15),
        noise=track(np.array([phone.noise for phone, _ in syllables]), glide=0.15),
    )


# Samples --------------------------------------------------------------------------------------------------------------


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


def _jittered_phase(pitch: np.ndarray, jitter: float, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Return the number of glottal cycles so far at each sample, with random deviations of their lengths."""
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
    # parallel resonances, (n_frames, n_frequencies), and the tilt of the spectrum
    frequencies = np.fft.rfftfreq(2 * hop, 1 / sample_rate)
    distance = frequencies.astype(np.float32) - formants[:, :, None].astype(np.float32)
    distance /= _BANDWIDTHS[:, None] / 2
    resonances = np.einsum("k,nkf->nf", _AMPLITUDES, 1 / np.sqrt(1 + distance * distance))
    octaves = np.log2(np.maximum(frequencies, 100.0) / 500.0)
    spectra *= resonances * (10 ** (brightness * octaves / 20)).astype(np.float32)
    frames = np.fft.irfft(spectra, 2 * hop) * window
    return (frames[1:, :hop] + frames[:-1, hop:]).ravel()


def _per_sample(track: np.ndarray, sample_rate: int) -> np.ndarray:
    """Interpolate a track of n frames to (n - 1) * hop samples."""
    hop = _hop(sample_rate)
    start, step = track[:-1, None].astype(np.float32), np.diff(track)[:, None].astype(np.float32)
    return (start + step * (np.arange(hop, dtype=np.float32) / hop)).ravel()
