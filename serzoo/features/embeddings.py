"""One vector per recording: signal features averaged over time, and hidden states of pretrained networks.

The networks are frozen. A process keeps the network that it used last and runs it on one recording at a time, on the
CPU, so that a vector depends on its recording alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from serzoo.errors import ConfigError, FeatureError, WeightsError
from serzoo.features.model_files import model_folder, require_extra, source_file, source_fingerprint
from serzoo.features.reference import mfcc, one_channel
from serzoo.features.spec import EmbeddingSpec, MFCCSpec

NEMO_SAMPLE_RATE = 16_000
"""Sample rate of NeMo's speaker networks, in Hz."""

_NEMO_WINDOW, _NEMO_HOP, _NEMO_FFT = 400, 160, 512

_TRAINING_ONLY = "masked_spec_embed"  # replaces masked frames in pretraining; released checkpoints lack it
_LENGTH_TYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}

_COMPUTING = threading.Lock()


def embed(waveform: np.ndarray, spec: EmbeddingSpec) -> np.ndarray:
    """Compute the vector of one recording.

    Args:
        waveform: (n_samples,) float32 at ``spec.sample_rate``, full scale at -1 and 1.
        spec: the source, and the layer of a network.

    Returns:
        (spec.width,) float32, finite.

    Raises:
        FeatureError: the waveform is not one channel or too short, the vector holds NaN, or the source is a table
            of vectors, which has none for new recordings.
        ConfigError: width, sample rate or layer differ from the network's.
        WeightsError: the network is missing or cannot be loaded.
        MissingExtraError: the package that runs the network is not installed.
    """
    vector = _EMBEDDERS[spec.source_kind](one_channel(waveform, spec), spec)
    check_width(vector.shape[-1], spec)
    if not np.isfinite(vector).all():
        raise FeatureError(
            f"the embedding by {spec.source} holds NaN or infinite values; check the recording and the network."
        )
    return vector.astype(np.float32)


def check_width(width: int, spec: EmbeddingSpec) -> None:
    """Raise ConfigError unless vectors of ``width`` values match the spec."""
    if width != spec.width:
        raise ConfigError(f"width is {spec.width}, but {spec.source} returns {width} values; set width: {width}.")


def measure_network(source: str, sample_rate: int | None = None, layer: int | None = None) -> tuple[int, int]:
    """Return the width of a network's vectors and its sample rate, by running it on a second of noise.

    Args:
        source: ``hf:NAME`` or ``onnx:FILE``.
        sample_rate: in Hz; None for the rate that the network's file states, or 16,000 if it states none.
        layer: hidden state of an ``hf:`` network; None for its output.

    Raises:
        SerzooError: as :func:`embed` raises.
    """
    spec = EmbeddingSpec(source=source, width=1, layer=layer)
    network = _network(source, source_fingerprint(spec.source))
    own = network.sample_rate or spec.sample_rate
    rate = own if sample_rate is None else sample_rate
    second = np.random.default_rng(0).uniform(-0.1, 0.1, rate).astype(np.float32)
    return len(network(second, replace(spec, sample_rate=rate))), rate


def _mel_mean(waveform: np.ndarray, spec: EmbeddingSpec) -> np.ndarray:
    """Return the mean over time of ``librosa.feature.melspectrogram``: powers, not decibels.

    80 Slaney mel bands between 0 Hz and half the sample rate, of periodic Hann windows of 2048 samples, 512 apart,
    centred, with zeros beyond both ends.
    """
    import librosa

    # librosa's own centring is the same but warns about clips shorter than a window
    padded = np.pad(waveform.astype(np.float32, copy=False), 1024)
    powers = librosa.feature.melspectrogram(
        y=padded, sr=spec.sample_rate, n_fft=2048, hop_length=512, n_mels=spec.width, center=False
    )
    return powers.mean(axis=1, dtype=np.float64)


def _mfcc_mean(waveform: np.ndarray, spec: EmbeddingSpec) -> np.ndarray:
    """Return the mean over time of the 39 coefficients of :func:`serzoo.features.reference.mfcc`."""
    frames = mfcc(waveform, MFCCSpec(sample_rate=spec.sample_rate, n_mfcc=spec.width))
    return frames.mean(axis=0, dtype=np.float64)


def nemo_log_mels(waveform: np.ndarray, n_mels: int) -> tuple[np.ndarray, int]:
    """Compute the log-mel frames that NeMo's speaker networks take.

    Preemphasis of 0.97, symmetric Hann windows of 25 ms, 10 ms apart, centred with zeros beyond both ends, power
    spectra of 512 samples, Slaney mel bands, and the natural logarithm of the power plus 2^-24. Each band is
    standardised (unbiased deviation plus 1e-5) over the valid frames, one per 160 samples; zero frames pad them to a
    multiple of 16.

    Args:
        waveform: (n_samples,) at 16,000 Hz.
        n_mels: mel bands.

    Returns:
        The frames, (n_mels, n_frames) float32, and the number of valid ones.

    Raises:
        FeatureError: the waveform is shorter than two frames, the least that have a deviation.

    Source: the configuration of NVIDIA NeMo's speaker recognition models, without dither (a training augmentation).
    """
    import librosa

    n_real = len(waveform) // _NEMO_HOP
    if n_real < 2:
        raise FeatureError(_too_short(len(waveform), 2 * _NEMO_HOP, NEMO_SAMPLE_RATE))
    samples = waveform.astype(np.float64)
    samples[1:] -= 0.97 * waveform[:-1].astype(np.float64)
    frames = librosa.util.frame(np.pad(samples, _NEMO_FFT // 2), frame_length=_NEMO_FFT, hop_length=_NEMO_HOP, axis=0)
    window = np.pad(np.hanning(_NEMO_WINDOW), (_NEMO_FFT - _NEMO_WINDOW) // 2)
    powers = np.abs(np.fft.rfft(frames[:n_real] * window)) ** 2
    bands = librosa.filters.mel(sr=NEMO_SAMPLE_RATE, n_fft=_NEMO_FFT, n_mels=n_mels)
    logs = np.log(bands @ powers.T + 2.0**-24)
    deviation = logs.std(axis=1, ddof=1, keepdims=True) + 1e-5
    normalised = (logs - logs.mean(axis=1, keepdims=True)) / deviation
    n_frames = -(-len(frames) // 16) * 16
    return np.pad(normalised, ((0, 0), (0, n_frames - n_real))).astype(np.float32), n_real


class _HuggingFaceNetwork:
    """A network of Hugging Face transformers that takes waveforms: wav2vec 2.0, HuBERT, WavLM and the like."""

    def __init__(self, source: str) -> None:
        require_extra("hf", "transformers", "torch")
        self.source = source
        folder, _ = model_folder(source.partition(":")[2])
        if not any(folder.glob("*.safetensors")):
            raise WeightsError(
                f"{source}: {folder} has no .safetensors weights, and pickled ones (.bin) are not read; save "
                "the model with save_pretrained of transformers and give that folder."
            )
        self.extractor, self.network, missing = _load_pretrained(source, folder)
        self.config = self.network.config
        # A transformer after convolutions over samples, without a decoder. Codecs and spectrogram networks call their
        # input input_values too, but lack one of these settings.
        needed = ("num_hidden_layers", "conv_kernel", "conv_stride")
        is_encoder = self.network.main_input_name == "input_values" and not self.config.is_encoder_decoder
        if not is_encoder or not all(hasattr(self.config, name) for name in needed):
            raise WeightsError(
                f"{source} is a {self.config.model_type} network; "
                "give one that takes waveforms: wav2vec 2.0, HuBERT or WavLM."
            )
        self.sample_rate: int | None = self.extractor.sampling_rate
        absent = sorted(name for name in missing if not name.endswith(_TRAINING_ONLY))
        if absent:
            raise WeightsError(
                f"{source} lacks {len(absent)} weights of a {self.config.model_type} network ({absent[0]}, ...); "
                "give a complete checkpoint."
            )

    def __call__(self, waveform: np.ndarray, spec: EmbeddingSpec) -> np.ndarray:
        """Return the mean over time of a hidden state, (width,)."""
        _check_rate(self.extractor.sampling_rate, spec)
        last, shortest = self.config.num_hidden_layers, self._shortest()
        if spec.layer is not None and spec.layer > last:
            raise ConfigError(
                f"layer is {spec.layer}, but {self.source} has {last}; use 0 to {last}, or null for the output."
            )
        if len(waveform) < shortest:
            raise FeatureError(_too_short(len(waveform), shortest, spec.sample_rate))
        inputs = self.extractor(waveform, sampling_rate=spec.sample_rate, return_tensors="pt")
        outputs = self.network(**inputs, output_hidden_states=spec.layer is not None)
        states = outputs.last_hidden_state if spec.layer is None else outputs.hidden_states[spec.layer]
        return states[0].numpy().mean(axis=0, dtype=np.float64)

    def _shortest(self) -> int:
        """Return the number of samples from which the convolutions compute one frame."""
        length = 1
        for kernel, stride in zip(reversed(self.config.conv_kernel), reversed(self.config.conv_stride), strict=True):
            length = (length - 1) * stride + kernel
        return length


def _load_pretrained(source: str, folder: Path) -> tuple[Any, Any, set[str]]:
    """Return feature extractor and network of a folder, and the names of missing weights; none of its code runs."""
    from transformers import AutoFeatureExtractor, AutoModel

    try:
        with _transformers_silent():
            extractor = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
            network, report = AutoModel.from_pretrained(
                folder, trust_remote_code=False, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
    except Exception as error:  # foreign files fail in many ways
        raise _unloadable(source, "transformers", error) from None
    # float32, since the CPU computes half precision slowly; without gradients no activations are kept for them
    return extractor, network.float().train(False).requires_grad_(False), set(report["missing_keys"])


@contextmanager
def _transformers_silent() -> Iterator[None]:
    """Suppress progress bars and load reports of transformers; missing weights are reported by an error instead."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


class _OnnxNetwork:
    """An ONNX graph that takes waveforms, or the log-mel frames of NeMo's speaker networks."""

    def __init__(self, source: str) -> None:
        require_extra("onnx", "onnxruntime")
        import onnxruntime

        path = source_file(source)
        self.source = source
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # the exception reports errors; the log would repeat them
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # foreign files fail in many ways
            raise _unloadable(source, "onnxruntime", error) from None
        self.inputs = self.session.get_inputs()
        self.n_mels = self._frames_or_waveform()
        self.sample_rate = None if self.n_mels is None else NEMO_SAMPLE_RATE
        self.output = self._choose_output()

    def __call__(self, waveform: np.ndarray, spec: EmbeddingSpec) -> np.ndarray:
        """Return the network's vector, or the mean of its vectors over time, (width,)."""
        signal, length = waveform.astype(np.float32, copy=False), len(waveform)
        if self.n_mels is not None:
            _check_rate(NEMO_SAMPLE_RATE, spec)
            signal, length = nemo_log_mels(waveform, self.n_mels)
        feeds = {self.inputs[0].name: signal[np.newaxis]}
        for other in self.inputs[1:]:
            feeds[other.name] = np.array([length], _LENGTH_TYPES[other.type])
        try:
            (values,) = self.session.run([self.output], feeds)
        except Exception as error:
            raise FeatureError(
                f"{self.source} fails on {len(waveform)} samples ({_first_line(error)}); "
                "use a longer recording or another network."
            ) from None
        vectors = values[0].astype(np.float64)
        return vectors if vectors.ndim == 1 else vectors.reshape(-1, vectors.shape[-1]).mean(axis=0)

    def _frames_or_waveform(self) -> int | None:
        """Return the number of mel bands if the network takes frames, or None if it takes waveforms."""
        lengths = all(len(other.shape) == 1 and other.type in _LENGTH_TYPES for other in self.inputs[1:])
        if len(self.inputs) in (1, 2) and self.inputs[0].type == "tensor(float)" and lengths:
            signal = self.inputs[0]
            if len(signal.shape) == 2:
                return None
            if len(signal.shape) == 3 and signal.name == "audio_signal" and isinstance(signal.shape[1], int):
                return signal.shape[1]
        given = ", ".join(f"{each.name} {each.type} {list(each.shape)}" for each in self.inputs) or "no input"
        raise WeightsError(
            f"{self.source} takes {given}; export a network of float32 waveforms (batch, samples), or one of NeMo's "
            "with audio_signal (batch, mel bands, time); a second input may be the integer lengths."
        )

    def _choose_output(self) -> str:
        """Return the name of the output that holds the vectors."""
        outputs = {output.name: output for output in self.session.get_outputs()}
        name = "embs" if "embs" in outputs else next(iter(outputs))
        if (len(outputs) > 1 and name != "embs") or len(outputs[name].shape) not in (2, 3):
            given = ", ".join(f"{each.name} {list(each.shape)}" for each in outputs.values())
            raise WeightsError(
                f"{self.source} returns {given}; export a network whose output embs, or whose only output, "
                "is (batch, width) or (batch, time, width)."
            )
        return name


_NETWORKS: Mapping[str, Callable[[str], Any]] = {"hf": _HuggingFaceNetwork, "onnx": _OnnxNetwork}


def _by_network(waveform: np.ndarray, spec: EmbeddingSpec) -> np.ndarray:
    content = source_fingerprint(spec.source)
    with _COMPUTING:  # one at a time: either library uses all cores for one recording
        return _network(spec.source, content)(waveform, spec)


@lru_cache(maxsize=1)
def _network(source: str, content: str) -> Any:
    """Return the network of a source; a changed fingerprint loads it again.

    A network is a function from a waveform, (n_samples,), and a spec to a vector, (width,). Its ``sample_rate`` is in
    Hz, or None where the network's file does not state it.
    """
    del content
    return _NETWORKS[source.partition(":")[0]](source)


def _by_name(waveform: np.ndarray, spec: EmbeddingSpec) -> np.ndarray:
    raise FeatureError(
        f"{spec.source} is a table of vectors and has none for a new recording; "
        "train on a source that computes vectors: hf:, onnx:, mel or mfcc."
    )


_EMBEDDERS: Mapping[str, Callable[[np.ndarray, EmbeddingSpec], np.ndarray]] = {
    "mel": _mel_mean,
    "mfcc": _mfcc_mean,
    "hf": _by_network,
    "onnx": _by_network,
    "vectors": _by_name,
}


def _check_rate(rate: int, spec: EmbeddingSpec) -> None:
    if rate != spec.sample_rate:
        raise ConfigError(
            f"sample_rate is {spec.sample_rate}, but {spec.source} takes {rate} Hz; set sample_rate: {rate}."
        )


def _too_short(n_samples: int, shortest: int, sample_rate: int) -> str:
    return (
        f"the recording has {n_samples} samples, but the network needs {shortest} at {sample_rate} Hz; "
        "use a longer recording."
    )


def _unloadable(source: str, library: str, error: Exception) -> WeightsError:
    return WeightsError(
        f"{source} cannot be loaded by {library} ({_first_line(error)}); give a complete model of that library."
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
