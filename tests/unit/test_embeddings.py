"""Embeddings: signal features, networks of Hugging Face and ONNX, and tables computed elsewhere."""

import json
import os
import pickle
import shutil
import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from serzoo.data import audio
from serzoo.data.cache import FeatureCache
from serzoo.data.corpora.corpus import Recording, build_manifest
from serzoo.data.examples import load_examples
from serzoo.data.vectors import embedding_spec
from serzoo.errors import AudioError, ConfigError, FeatureError, MissingExtraError, UnknownNameError, WeightsError
from serzoo.features import embeddings, model_files
from serzoo.features.embeddings import embed, nemo_log_mels
from serzoo.features.extract import extract
from serzoo.features.model_files import source_fingerprint
from serzoo.features.spec import SOURCES, EmbeddingSpec, MFCCSpec, spec_from_dict
from serzoo.recipes import recipe_from_dict

MEL = EmbeddingSpec(source="mel", width=80, sample_rate=22_050)
MFCC = EmbeddingSpec(source="mfcc", width=39, sample_rate=22_050)
SHORTEST = 25  # samples of the tiny networks: (4 - 1) * 5 + 10
CLASSES = ("angry", "happy")
KNOWN = " Known: hf, mel, mfcc, onnx, vectors."


def noise(n_samples, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(n_samples)).astype(np.float32)


def written(path, samples, sample_rate=16_000):
    soundfile.write(path, samples, sample_rate, subtype="FLOAT")
    return path


def error_of(function, *arguments):
    """Return the class and the message of the error, which is one line."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the callers look at both
        function(*arguments)
    assert "\n" not in str(caught.value)
    return caught.type, str(caught.value)


# The spec -------------------------------------------------------------------------------------------------------------


def test_an_embedding_is_a_feature_of_one_frame():
    spec = EmbeddingSpec(source="hf:facebook/hubert-base-ls960", width=768, layer=9)
    assert spec.frame_shape == (768,)
    assert spec.n_frames == spec.frames_in(1) == spec.frames_in(10**6) == 1
    assert (spec.n_samples, spec.segment_frames, spec.sample_rate) == (None, None, 16_000)
    assert (spec.source_kind, spec.source_name) == ("hf", "facebook/hubert-base-ls960")


@pytest.mark.parametrize("spec", [MEL, EmbeddingSpec(source="hf:a/b", width=768, layer=0)])
def test_spec_survives_plain_data_and_recipes(spec):
    values = spec.to_dict()
    assert list(values) == ["kind", "sample_rate", "source", "width", "layer"]
    assert spec_from_dict(values) == spec
    recipe = {"name": "x", "corpus": "ravdess", "model": {"name": "embedding_dnn"}, "protocol": "loso-v1"}
    assert recipe_from_dict({**recipe, "features": values}).features == spec


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"source": "mels"}, UnknownNameError, "Unknown embedding source 'mels'. Did you mean 'mel'?" + KNOWN),
        ({"source": "onx:x.onnx"}, UnknownNameError, "Unknown embedding source 'onx'. Did you mean 'onnx'?" + KNOWN),
        ({"source": 3}, ConfigError, "source is 3; it must be text (in quotes if it looks like a number)."),
        (
            {"source": "hf:a\nb"},
            ConfigError,
            r"source is 'hf:a\nb'; it must be a line of text, for example mel or hf:NAME.",
        ),
        ({"source": "hf:"}, ConfigError, "source is 'hf:'; add its name after a colon: hf:NAME."),
        ({"source": "vectors"}, ConfigError, "source is 'vectors'; add its name after a colon: vectors:NAME."),
        ({"source": "mfcc:x"}, ConfigError, "source is 'mfcc:x'; mfcc needs no file, write mfcc."),
        (
            {"source": "mel"},
            ConfigError,
            "width is 4 and sample_rate is 16000, but mel has 80 values at 22050 Hz; "
            "set width: 80 and sample_rate: 22050.",
        ),
        ({"width": 0}, ConfigError, "width is 0; it must be an integer of at least 1."),
        ({"sample_rate": -1}, ConfigError, "sample_rate is -1; it must be an integer of at least 1."),
        ({"layer": -1}, ConfigError, "layer is -1; it must be an integer of at least 0, or None (null in YAML)."),
        ({"layer": True}, ConfigError, "layer is True; it must be an integer of at least 0, or None (null in YAML)."),
        (
            {"source": "onnx:x.onnx", "layer": 1},
            ConfigError,
            "layer is 1, but only hf: networks have layers to choose; leave it out.",
        ),
        (
            {"n_samples": 5},
            UnknownNameError,
            "Unknown key 'n_samples'. Did you mean 'sample_rate'? "
            "Known: layer, sample_rate, source, width.",
        ),
    ],
)  # fmt: skip
def test_invalid_settings_raise(values, error, message):
    given = {"kind": "embedding", "source": "hf:a/b", "width": 4, **values}
    assert error_of(spec_from_dict, given) == (error, message)


def test_source_and_width_must_be_given():
    expected = (ConfigError, "the key 'source', 'width' is missing; add it.")
    assert error_of(spec_from_dict, {"kind": "embedding"}) == expected


def test_every_source_has_its_function():
    assert sorted(embeddings._EMBEDDERS) == sorted(SOURCES)


# Signal features ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_samples", [30_000, 2_000])  # more and less than a window
@pytest.mark.filterwarnings("ignore:n_fft=2048 is too large")
def test_mel_is_librosas_power_spectrogram_averaged_over_time(n_samples):
    import librosa

    waveform = noise(n_samples)
    powers = librosa.feature.melspectrogram(
        y=waveform, sr=22_050, n_fft=2048, hop_length=512, window="hann", n_mels=80, power=2.0
    )
    vector = embed(waveform, MEL)
    assert (vector.shape, vector.dtype) == ((80,), np.float32)
    np.testing.assert_allclose(vector, powers.mean(axis=1), rtol=1e-5)


def test_mfcc_is_librosas_averaged_over_time():
    import librosa

    waveform = noise(30_000)
    frames = librosa.feature.mfcc(y=waveform, sr=22_050, n_mfcc=39, n_fft=2048, hop_length=512, window="hann")
    np.testing.assert_allclose(embed(waveform, MFCC), frames.mean(axis=1), rtol=0, atol=1e-3)


def test_extraction_returns_the_vector_as_one_frame():
    waveform = noise(5_000)
    np.testing.assert_array_equal(extract(waveform, MFCC), embed(waveform, MFCC)[np.newaxis])


@pytest.mark.parametrize("waveform", [np.zeros((2, 5_000), np.float32), np.zeros(0, np.float32)])
def test_a_vector_needs_one_channel(waveform):
    with pytest.raises(FeatureError, match="features need one channel"):
        embed(waveform, MEL)


# Networks of Hugging Face transformers --------------------------------------------------------------------------------


@dataclass
class Saved:
    """A tiny network with random weights: the folder it was saved to, itself, and its feature extractor."""

    folder: Path
    network: object
    extractor: object

    @property
    def spec(self):
        return EmbeddingSpec(source=f"hf:{self.folder}", width=16)

    def direct(self, waveform, layer=None):
        """Return what transformers computes, averaged over time."""
        import torch

        with torch.inference_mode():
            inputs = self.extractor(waveform, sampling_rate=16_000, return_tensors="pt")
            outputs = self.network(**inputs, output_hidden_states=True)
        states = outputs.last_hidden_state if layer is None else outputs.hidden_states[layer]
        return states[0].mean(dim=0).numpy()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    import torch
    from transformers import (
        HubertConfig,
        HubertModel,
        Wav2Vec2Config,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2Model,
        WavLMConfig,
        WavLMModel,
    )

    sizes = {
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16,
        "conv_dim": (8, 8), "conv_kernel": (10, 4), "conv_stride": (5, 4), "num_feat_extract_layers": 2,
        "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2,
    }  # fmt: skip
    by_layer = {**sizes, "feat_extract_norm": "layer"}  # layer norm does not remove a constant from the waveform
    kinds = {
        "wav2vec2": (Wav2Vec2Model, Wav2Vec2Config(**by_layer), True),
        "hubert": (HubertModel, HubertConfig(**sizes), True),
        "wavlm": (WavLMModel, WavLMConfig(**by_layer, do_stable_layer_norm=True), False),
    }
    torch.manual_seed(0)
    made = {}
    for name, (kind, config, do_normalize) in kinds.items():
        folder = tmp_path_factory.mktemp(name)
        network, extractor = kind(config).eval(), Wav2Vec2FeatureExtractor(do_normalize=do_normalize)
        network.save_pretrained(folder)
        extractor.save_pretrained(folder)
        made[name] = Saved(folder, network, extractor)
    return made


@pytest.fixture
def hubert(saved):
    return saved["hubert"]


@pytest.fixture
def copy(hubert, tmp_path):
    """The folder of a network that a test may damage."""
    return Path(shutil.copytree(hubert.folder, tmp_path / "copy"))


@pytest.mark.parametrize("layer", [None, 0, 1, 2])
@pytest.mark.parametrize("name", ["wav2vec2", "hubert", "wavlm"])
def test_hidden_states_are_those_of_transformers(saved, name, layer):
    waveform = noise(4_000)
    vector = embed(waveform, replace(saved[name].spec, layer=layer))
    assert (vector.shape, vector.dtype) == ((16,), np.float32)
    np.testing.assert_allclose(vector, saved[name].direct(waveform, layer), rtol=0, atol=1e-5)


def test_the_feature_extractors_normalisation_is_respected(saved):
    waveform = noise(4_000)
    shifts = {
        name: np.abs(embed(waveform + np.float32(0.5), saved[name].spec) - embed(waveform, saved[name].spec)).max()
        for name in ("wav2vec2", "wavlm")
    }
    assert shifts["wav2vec2"] < 1e-4 < 1e-2 < shifts["wavlm"]


def test_a_vector_does_not_depend_on_order_or_threads(hubert, tmp_path):
    paths = [written(tmp_path / f"{index}.wav", noise(2_000 + 700 * index, index)) for index in range(6)]
    together = FeatureCache(tmp_path / "one").features(paths, hubert.spec, workers=4)
    assert together.shape == (6, 1, 16)
    alone = [FeatureCache(tmp_path / "two").clip(path, hubert.spec) for path in reversed(paths)][::-1]
    np.testing.assert_array_equal(together, alone)
    assert len({vector.tobytes() for vector in together}) == 6


def test_a_network_is_loaded_once(hubert, monkeypatch):
    embeddings._network.cache_clear()
    loaded, load = [], embeddings._load_pretrained
    monkeypatch.setattr(embeddings, "_load_pretrained", lambda *given: (loaded.append(given[0]), load(*given))[1])
    threads = [threading.Thread(target=embed, args=(noise(800, seed), hubert.spec)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    embed(noise(800), replace(hubert.spec, layer=1))
    assert loaded == [hubert.spec.source]


def test_digest_depends_on_the_content_of_the_model(hubert, copy):
    spec = hubert.spec
    moved = replace(spec, source=f"hf:{copy}")
    assert moved.digest() == spec.digest()
    (copy / "README.md").write_text("not the model")
    assert moved.digest() == spec.digest()
    assert len({spec.digest(), *(replace(spec, layer=layer).digest() for layer in (0, 1))}) == 3
    weights = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    assert moved.digest() != spec.digest()


def test_a_changed_model_is_loaded_again(saved, copy):
    spec = EmbeddingSpec(source=f"hf:{copy}", width=16)
    waveform = noise(2_000)
    np.testing.assert_allclose(embed(waveform, spec), saved["hubert"].direct(waveform), atol=1e-5)
    for file in saved["wavlm"].folder.iterdir():
        shutil.copy(file, copy)
    np.testing.assert_allclose(embed(waveform, spec), saved["wavlm"].direct(waveform), atol=1e-5)


def test_files_are_read_once_for_the_digest(hubert, monkeypatch):
    source_fingerprint(hubert.spec.source)
    read = []
    monkeypatch.setattr("hashlib.file_digest", lambda *given: read.append(given))
    source_fingerprint(hubert.spec.source)
    assert read == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 8}, "width is 8, but {source} returns 16 values; set width: 16."),
        ({"layer": 3}, "layer is 3, but {source} has 2; use 0 to 2, or null for the output."),
        ({"sample_rate": 8_000}, "sample_rate is 8000, but {source} takes 16000 Hz; set sample_rate: 16000."),
    ],
)
def test_a_spec_that_does_not_fit_the_network(hubert, tmp_path, changes, message):
    spec = replace(hubert.spec, **changes)
    expected = (ConfigError, message.format(source=spec.source))
    assert error_of(embed, noise(2_000), spec) == expected
    path = written(tmp_path / "a.wav", noise(2_000))
    assert error_of(FeatureCache(tmp_path).clip, path, spec) == expected


def test_a_recording_too_short_for_the_convolutions(hubert, tmp_path):
    embed(noise(SHORTEST), hubert.spec)
    message = f"the recording has {SHORTEST - 1} samples, but the network needs 25 at 16000 Hz; use a longer recording."
    assert error_of(embed, noise(SHORTEST - 1), hubert.spec) == (FeatureError, message)
    path = written(tmp_path / "a.wav", noise(SHORTEST - 1))
    assert error_of(FeatureCache(tmp_path).clip, path, hubert.spec) == (AudioError, f"{path}: {message}")


def test_a_nan_embedding_names_the_recording(hubert, tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings._HuggingFaceNetwork, "__call__", lambda *_: np.full(16, np.nan))
    path = written(tmp_path / "a.wav", noise(2_000))
    message = (
        f"the embedding by {hubert.spec.source} holds NaN or infinite values; check the recording and the network."
    )
    assert error_of(FeatureCache(tmp_path).clip, path, hubert.spec) == (AudioError, f"{path}: {message}")


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_missing_extra_for_transformers(hubert, monkeypatch, package):
    embeddings._network.cache_clear()
    monkeypatch.setitem(sys.modules, package, None)
    message = f"hf: embeddings need {package}; run: pip install 'serzoo[huggingface]'"
    assert error_of(embed, noise(800), hubert.spec) == (MissingExtraError, message)
    hub = EmbeddingSpec(source="hf:some/model", width=16)
    assert error_of(source_fingerprint, hub.source) == (MissingExtraError, message)


def test_cached_vectors_need_no_extra(hubert, tmp_path, monkeypatch):
    path = written(tmp_path / "a.wav", noise(2_000))
    vector = FeatureCache(tmp_path).clip(path, hubert.spec)
    monkeypatch.setitem(sys.modules, "transformers", None)
    np.testing.assert_array_equal(FeatureCache(tmp_path).clip(path, hubert.spec), vector)


def test_missing_folder(tmp_path):
    name = f"{tmp_path}/nothing"
    message = f"hf:{name}: folder {name} does not exist; give a folder, or a hub id such as user/model."
    assert error_of(embed, noise(800), EmbeddingSpec(source=f"hf:{name}", width=16)) == (WeightsError, message)


def test_pickled_weights_are_not_read(copy):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(copy / "executed"),)

    (copy / "model.safetensors").unlink()
    (copy / "pytorch_model.bin").write_bytes(pickle.dumps(Hostile()))
    message = (
        f"hf:{copy}: {copy} has no .safetensors weights, and pickled ones (.bin) are not read; save the model "
        "with save_pretrained of transformers and give that folder."
    )
    assert error_of(embed, noise(800), EmbeddingSpec(source=f"hf:{copy}", width=16)) == (WeightsError, message)
    assert not (copy / "executed").exists()


def test_code_beside_the_weights_is_not_run(copy):
    (copy / "own.py").write_text(f"import os; os.mkdir({str(copy / 'executed')!r})\nclass C: pass\n")
    config = json.loads((copy / "config.json").read_text())
    code = {"AutoConfig": "own.C", "AutoModel": "own.C"}
    (copy / "config.json").write_text(json.dumps({**config, "model_type": "own", "auto_map": code}))
    kind, message = error_of(embed, noise(800), EmbeddingSpec(source=f"hf:{copy}", width=16))
    assert kind is WeightsError
    assert message.startswith(f"hf:{copy} cannot be loaded by transformers (")
    assert not (copy / "executed").exists()


def test_damaged_weights(copy):
    (copy / "model.safetensors").write_bytes(b"\0" * 100)
    kind, message = error_of(embed, noise(800), EmbeddingSpec(source=f"hf:{copy}", width=16))
    assert kind is WeightsError
    assert message.startswith(f"hf:{copy} cannot be loaded by transformers (")
    assert message.endswith("); give a complete model of that library.")


def test_transformers_prints_nothing_while_loading_and_its_logging_is_restored(copy, capfd):
    from safetensors.torch import load_file, save_file
    from transformers.utils import logging

    weights = load_file(copy / "model.safetensors")
    save_file(
        {**weights, "surplus": weights["masked_spec_embed"].clone()},
        copy / "model.safetensors",
        metadata={"format": "pt"},
    )
    embed(noise(800), EmbeddingSpec(source=f"hf:{copy}", width=16))
    assert capfd.readouterr() == ("", "")
    assert logging.is_progress_bar_enabled()
    assert logging.get_verbosity() == logging.WARNING


def test_an_incomplete_checkpoint_raises(copy):
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    name = "feature_projection.projection.bias"
    del weights[name]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    message = f"hf:{copy} lacks 1 weights of a hubert network ({name}, ...); give a complete checkpoint."
    assert error_of(embed, noise(800), EmbeddingSpec(source=f"hf:{copy}", width=16)) == (WeightsError, message)


def test_weights_for_pretraining_only_may_be_missing(hubert, copy):
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    del weights["masked_spec_embed"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    vector = embed(noise(800), EmbeddingSpec(source=f"hf:{copy}", width=16))
    np.testing.assert_allclose(vector, hubert.direct(noise(800)), atol=1e-5)


def test_a_network_that_takes_no_waveforms_raises(tmp_path):
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

    config = WhisperConfig(
        vocab_size=8, d_model=4, encoder_layers=1, decoder_layers=1, encoder_attention_heads=1, pad_token_id=0,
        decoder_attention_heads=1, encoder_ffn_dim=4, decoder_ffn_dim=4, bos_token_id=0, eos_token_id=0,
        decoder_start_token_id=0, suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    WhisperModel(config).save_pretrained(tmp_path)
    WhisperFeatureExtractor().save_pretrained(tmp_path)
    message = f"hf:{tmp_path} is a whisper network; give one that takes waveforms: wav2vec 2.0, HuBERT or WavLM."
    assert error_of(embed, noise(800), EmbeddingSpec(source=f"hf:{tmp_path}", width=4)) == (WeightsError, message)


def test_other_networks_with_input_values_raise(tmp_path):
    """A codec and a network of spectrograms name their input as wav2vec 2.0 does."""
    from transformers import (
        ASTConfig,
        ASTFeatureExtractor,
        ASTModel,
        EncodecConfig,
        EncodecFeatureExtractor,
        EncodecModel,
    )

    sizes = {"hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 4}
    codec = {"num_filters": 2, "hidden_size": 4, "codebook_dim": 4, "codebook_size": 4, "upsampling_ratios": [2, 2]}
    kinds = {
        "encodec": (EncodecModel(EncodecConfig(**codec)), EncodecFeatureExtractor(sampling_rate=16_000)),
        "audio-spectrogram-transformer": (
            ASTModel(ASTConfig(**sizes, max_length=32, num_mel_bins=16)),
            ASTFeatureExtractor(max_length=32, num_mel_bins=16),
        ),
    }
    for kind, (network, extractor) in kinds.items():
        network.save_pretrained(tmp_path / kind)
        extractor.save_pretrained(tmp_path / kind)
        source = f"hf:{tmp_path / kind}"
        message = f"{source} is a {kind} network; give one that takes waveforms: wav2vec 2.0, HuBERT or WavLM."
        assert error_of(embed, noise(800), EmbeddingSpec(source=source, width=4)) == (WeightsError, message)


def test_weights_under_the_names_of_earlier_versions_load(hubert, copy):
    """Checkpoints from before 2024, the majority on the Hub, name the halves of a weight norm g and v."""
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    halves = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    for now, before in halves.items():
        (name,) = [name for name in weights if name.endswith(now)]
        weights[name.replace(now, before)] = weights.pop(name)
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    vector = embed(noise(800), EmbeddingSpec(source=f"hf:{copy}", width=16))
    np.testing.assert_allclose(vector, hubert.direct(noise(800)), atol=1e-5)


# The Hub --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The Hub's cache, empty, and no network."""
    from huggingface_hub import constants

    model_files._snapshot.cache_clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    yield tmp_path / "hub"
    model_files._snapshot.cache_clear()


def test_a_hub_id_without_network(hub):
    spec = EmbeddingSpec(source="hf:some/model", width=16)
    message = (
        "hf:some/model is no folder, and downloading it from the Hugging Face Hub failed (OfflineModeIsEnabled); "
        "check the name and the connection, or download the model elsewhere and give its folder."
    )
    assert error_of(embed, noise(800), spec) == (WeightsError, message)
    assert error_of(spec.digest) == (WeightsError, message)


def test_a_hub_that_does_not_reply_times_out(hub, manifest, monkeypatch):
    """Neither the look-up of a host name nor the first request of huggingface_hub has a time limit."""
    import huggingface_hub

    released, asked = threading.Event(), []

    def swallow(self, hub_id, timeout):
        asked.append((hub_id, timeout))
        released.wait(20)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", swallow)
    monkeypatch.setattr(model_files, "_HUB_TIMEOUT", 0.05)
    message = (
        "hf:some/model is no folder, and downloading it from the Hugging Face Hub failed (TimeoutError); "
        "check the name and the connection, or download the model elsewhere and give its folder."
    )
    assert error_of(source_fingerprint, "hf:some/model") == (WeightsError, message)
    assert asked == [("some/model", 0.05)]
    assert error_of(load_examples, manifest, EmbeddingSpec(source="hf:some/model", width=16))[1] == message
    assert len(asked) == 2  # once, not in each thread that reads recordings
    released.set()


def test_a_model_on_the_hub_is_downloaded(hub, hubert, monkeypatch):
    import huggingface_hub

    asked = []
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda self, hub_id, timeout: None)

    def download(hub_id, *, allow_patterns, local_files_only=False):
        asked.append(local_files_only)
        if local_files_only:
            raise FileNotFoundError
        return str(hubert.folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    np.testing.assert_allclose(
        embed(noise(800), EmbeddingSpec(source="hf:some/model", width=16)), hubert.direct(noise(800)), atol=1e-5
    )
    assert asked == [True, False]


def test_a_hub_id_in_the_cache_is_its_commit(hub, hubert):
    commits = ("1" * 40, "2" * 40)
    repository = hub / "models--some--model"
    digests = []
    for commit in commits:
        model_files._snapshot.cache_clear()
        shutil.copytree(hubert.folder, repository / "snapshots" / commit)
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / "main").write_text(commit)
        spec = EmbeddingSpec(source="hf:some/model", width=16)
        assert source_fingerprint(spec.source) == commit
        np.testing.assert_allclose(embed(noise(800), spec), hubert.direct(noise(800)), atol=1e-5)
        digests.append(spec.digest())
    assert len(set(digests)) == 2


# ONNX -----------------------------------------------------------------------------------------------------------------


def save_graph(path, nodes, inputs, outputs, constants=()):
    """Write an ONNX graph; inputs and outputs are (name, shape) of float32 or (name, shape, type)."""
    import onnx

    def values(given):
        return [
            onnx.helper.make_tensor_value_info(name, *(kind or [onnx.TensorProto.FLOAT]), shape)
            for name, shape, *kind in given
        ]

    tensors = [onnx.numpy_helper.from_array(value, name) for name, value in constants]
    graph = onnx.helper.make_graph(nodes, "tiny", values(inputs), values(outputs), tensors)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def node(kind, inputs, outputs, **attributes):
    import onnx

    return onnx.helper.make_node(kind, inputs, outputs, **attributes)


CONVOLUTION = np.random.default_rng(0).normal(size=(3, 1, 40)).astype(np.float32)
AXES = [("first", np.array([1], np.int64)), ("kernel", CONVOLUTION)]


@pytest.fixture(scope="module")
def waveform_graph(tmp_path_factory):
    """(batch, samples) to (batch, time, 3): a convolution of 40 samples with a stride of 20."""
    nodes = [
        node("Unsqueeze", ["wave", "first"], ["channel"]),
        node("Conv", ["channel", "kernel"], ["maps"], strides=[20]),
        node("Transpose", ["maps"], ["out"], perm=[0, 2, 1]),
    ]
    path = tmp_path_factory.mktemp("onnx") / "wave.onnx"
    return save_graph(path, nodes, [("wave", ["batch", "samples"])], [("out", ["batch", "time", 3])], AXES)


@pytest.fixture(scope="module")
def nemo_graph(tmp_path_factory):
    """NeMo's inputs and outputs: the sum over time, over the length, of each of 8 bands, and a decoy."""
    import onnx

    nodes = [
        node("ReduceSum", ["audio_signal", "last"], ["sum"], keepdims=0),
        node("Abs", ["audio_signal"], ["sizes"]),
        node("ReduceSum", ["sizes", "last"], ["size"], keepdims=0),
        node("Cast", ["length"], ["count"], to=onnx.TensorProto.FLOAT),
        node("Concat", ["sum", "size"], ["both"], axis=1),
        node("Div", ["both", "count"], ["embs"]),
        node("Neg", ["embs"], ["logits"]),
    ]
    path = tmp_path_factory.mktemp("onnx") / "nemo.onnx"
    inputs = [("audio_signal", ["batch", 8, "time"]), ("length", ["batch"], onnx.TensorProto.INT64)]
    outputs = [("logits", ["batch", 16]), ("embs", ["batch", 16])]
    return save_graph(path, nodes, inputs, outputs, [("last", np.array([2], np.int64))])


def onnx_spec(path, width, **settings):
    return EmbeddingSpec(source=f"onnx:{path}", width=width, **settings)


def test_output_with_a_time_axis_is_averaged(waveform_graph):
    waveform = noise(1_000)
    frames = np.lib.stride_tricks.sliding_window_view(waveform, 40)[::20]
    vector = embed(waveform, onnx_spec(waveform_graph, 3))
    assert (vector.shape, vector.dtype) == ((3,), np.float32)
    np.testing.assert_allclose(vector, (frames @ CONVOLUTION[:, 0].T).mean(axis=0), rtol=0, atol=1e-5)


def test_the_length_is_passed_to_a_network_that_takes_it(tmp_path):
    import onnx

    nodes = [
        node("ReduceSum", ["wave", "first"], ["sum"]),
        node("Cast", ["n"], ["count"], to=onnx.TensorProto.FLOAT),
        node("Div", ["sum", "count"], ["mean"]),
    ]
    inputs = [("wave", [1, "samples"]), ("n", [1], onnx.TensorProto.INT32)]
    path = save_graph(tmp_path / "length.onnx", nodes, inputs, [("mean", [1, 1])], AXES[:1])
    waveform = noise(999) + np.float32(0.5)
    np.testing.assert_allclose(embed(waveform, onnx_spec(path, 1)), [waveform.mean()], rtol=1e-5)


@pytest.mark.parametrize("n_samples", [320, 2_560, 16_000, 16_159, 16_160])
def test_log_mels_are_nemos(n_samples):
    """By torch.stft, which NeMo uses too, in place of librosa's frames and NumPy's transform."""
    import librosa
    import torch

    waveform = noise(n_samples)
    frames, n_real = nemo_log_mels(waveform, 80)
    emphasised = torch.from_numpy(np.append(waveform[:1], waveform[1:] - 0.97 * waveform[:-1]).astype(np.float32))
    window = torch.hann_window(400, periodic=False)
    spectra = torch.stft(
        emphasised, 512, hop_length=160, win_length=400, window=window, center=True, pad_mode="constant",
        return_complex=True,
    )  # fmt: skip
    logs = np.log(librosa.filters.mel(sr=16_000, n_fft=512, n_mels=80) @ spectra.abs().numpy() ** 2 + 2**-24)
    logs = torch.from_numpy(logs[:, : n_samples // 160])
    expected = (logs - logs.mean(dim=1, keepdim=True)) / (logs.std(dim=1, keepdim=True) + 1e-5)
    assert n_real == n_samples // 160
    assert (frames.dtype, frames.shape[1] % 16) == (np.float32, 0)
    assert 0 <= frames.shape[1] - (1 + n_samples // 160) < 16
    np.testing.assert_allclose(frames[:, :n_real], expected, rtol=0, atol=5e-3)
    assert not frames[:, n_real:].any()


def test_nemo_networks_take_frames_and_their_number(nemo_graph):
    waveform = noise(5_000)
    frames, n_real = nemo_log_mels(waveform, 8)
    vector = embed(waveform, onnx_spec(nemo_graph, 16))
    expected = np.concatenate([frames.sum(axis=1), np.abs(frames).sum(axis=1)]) / n_real
    np.testing.assert_allclose(vector, expected, rtol=0, atol=1e-5)
    assert vector[8:].min() > 0.1


def test_nemo_networks_take_16_khz_and_at_least_two_frames(nemo_graph):
    spec = onnx_spec(nemo_graph, 16, sample_rate=22_050)
    message = f"sample_rate is 22050, but {spec.source} takes 16000 Hz; set sample_rate: 16000."
    assert error_of(embed, noise(5_000), spec) == (ConfigError, message)
    message = "the recording has 319 samples, but the network needs 320 at 16000 Hz; use a longer recording."
    assert error_of(embed, noise(319), onnx_spec(nemo_graph, 16)) == (FeatureError, message)
    assert np.isfinite(embed(noise(320), onnx_spec(nemo_graph, 16))).all()


def test_too_short_for_a_graph(waveform_graph):
    spec = onnx_spec(waveform_graph, 3)
    kind, message = error_of(embed, noise(39), spec)
    assert kind is FeatureError
    assert message.startswith(f"{spec.source} fails on 39 samples (")
    assert message.endswith("); use a longer recording or another network.")


def test_width_of_a_graph(waveform_graph):
    spec = onnx_spec(waveform_graph, 192)
    message = f"width is 192, but {spec.source} returns 3 values; set width: 3."
    assert error_of(embed, noise(800), spec) == (ConfigError, message)


def test_digest_depends_on_the_graph_and_its_weight_files(waveform_graph, tmp_path):
    path = shutil.copy(waveform_graph, tmp_path / "wave.onnx")
    spec = onnx_spec(path, 3)
    before = spec.digest()
    assert before == onnx_spec(waveform_graph, 3).digest()
    (tmp_path / "wave.onnx.d").mkdir()
    assert spec.digest() == before
    (tmp_path / "wave.onnx.data").write_bytes(b"weights")
    assert spec.digest() != before


@pytest.mark.parametrize("file", ["weights.bin", "w" * 150])
def test_digest_depends_on_weight_files_of_any_name(waveform_graph, tmp_path, file):
    import onnx

    path = tmp_path / "wave.onnx"
    onnx.save(onnx.load(waveform_graph), path, save_as_external_data=True, location=file, size_threshold=100)
    spec = onnx_spec(path, 3)
    before, vector = spec.digest(), embed(noise(800), spec)
    np.testing.assert_array_equal(vector, embed(noise(800), onnx_spec(waveform_graph, 3)))
    weights = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(weights[:-4] + np.float32(9).tobytes())
    assert spec.digest() != before
    assert not np.array_equal(embed(noise(800), spec), vector)


def test_graphs_with_other_inputs_or_outputs_raise(tmp_path):
    import onnx

    features = save_graph(
        tmp_path / "feats.onnx",
        [node("Neg", ["feats"], ["out"])],
        [("feats", ["n", "t", 80])],
        [("out", ["n", "t", 80])],
    )
    message = (
        f"onnx:{features} takes feats tensor(float) ['n', 't', 80]; export a network of float32 waveforms (batch, "
        "samples), or one of NeMo's with audio_signal (batch, mel bands, time); a second input may be the integer "
        "lengths."
    )
    assert error_of(embed, noise(800), onnx_spec(features, 80)) == (WeightsError, message)
    wave = [("wave", [1, "n"])]
    nodes = [node("Neg", ["wave"], ["a"]), node("Abs", ["wave"], ["b"])]
    two = save_graph(tmp_path / "two.onnx", nodes, wave, [("a", [1, "n"]), ("b", [1, "n"])])
    message = (
        f"onnx:{two} returns a [1, 'n'], b [1, 'n']; export a network whose output embs, or whose only output, "
        "is (batch, width) or (batch, time, width)."
    )
    assert error_of(embed, noise(800), onnx_spec(two, 80)) == (WeightsError, message)
    whole = [("wave", [1, "n"], onnx.TensorProto.INT64)]
    integers = save_graph(tmp_path / "int.onnx", nodes[:1], whole, [("a", [1, "n"], onnx.TensorProto.INT64)])
    kind, message = error_of(embed, noise(800), onnx_spec(integers, 80))
    assert kind is WeightsError
    assert message.startswith(f"onnx:{integers} takes wave tensor(int64) [1, 'n']; ")
    constant = save_graph(
        tmp_path / "constant.onnx",
        [node("Neg", ["c"], ["o"])],
        [],
        [("o", [1, 3])],
        [("c", np.ones((1, 3), np.float32))],
    )
    kind, message = error_of(embed, noise(800), onnx_spec(constant, 3))
    assert kind is WeightsError
    assert message.startswith(f"onnx:{constant} takes no input; ")


def test_missing_and_damaged_graphs(tmp_path):
    path = tmp_path / "none.onnx"
    message = f"onnx:{path}: file {path} does not exist; correct the path in source."
    assert error_of(embed, noise(800), onnx_spec(path, 3)) == (WeightsError, message)
    path.write_bytes(b"no graph")
    kind, message = error_of(embed, noise(800), onnx_spec(path, 3))
    assert kind is WeightsError
    assert message.startswith(f"onnx:{path} cannot be loaded by onnxruntime (")


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_missing_extra_for_onnx(waveform_graph, monkeypatch, package):
    embeddings._network.cache_clear()
    monkeypatch.setitem(sys.modules, package, None)
    message = f"onnx: embeddings need {package}; run: pip install 'serzoo[onnx]'"
    assert error_of(embed, noise(800), onnx_spec(waveform_graph, 3)) == (MissingExtraError, message)


# Vectors computed elsewhere -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    clips = [written(folder / f"{name}.wav", noise(4_000, seed)) for seed, name in enumerate("abcd")]
    rows = [(path, Recording(label=CLASSES[index % 2], speaker=str(index))) for index, path in enumerate(clips)]
    return build_manifest(rows, CLASSES, "custom")


VECTORS = np.arange(12, dtype=np.float64).reshape(4, 3) / 7


def write_table(path, names, vectors=VECTORS):
    if path.suffix == ".npz":
        np.savez(path, names=np.array(names), vectors=vectors)
    else:
        rows = [",".join([name, *map(repr, row)]) for name, row in zip(names, vectors.tolist(), strict=True)]
        path.write_text("\n".join(["clip,0,1,2", *rows]))
    return EmbeddingSpec(source=f"vectors:{path}", width=3)


@pytest.mark.parametrize("file", ["v.npz", "v.csv", "V.CSV"])
def test_vectors_are_looked_up_by_name(manifest, tmp_path, file):
    names = ["d.wav", "NA", "b.wav", "c.wav", "a.wav"]
    spec = write_table(tmp_path / file, names, np.vstack([VECTORS, VECTORS[:1] + 9]))
    examples = load_examples(manifest, spec)
    assert examples.features.dtype == np.float32
    assert examples.features.shape == (4, 1, 3)
    table = dict(zip(names, np.vstack([VECTORS, VECTORS[:1] + 9]), strict=True))
    np.testing.assert_allclose(examples.features[:, 0], [table[name] for name in manifest.names], rtol=1e-6)
    assert load_examples(manifest.select([2]), spec).features[0, 0, 0] == np.float32(table[manifest.names[2]][0])


@pytest.mark.parametrize("file", ["v.npz", "v.csv"])
def test_tables_with_mistakes(manifest, tmp_path, file):
    path = tmp_path / file
    names = list(manifest.names)
    spec = write_table(path, ["a.wav", "b.wav", "c.wav", "x.wav"])
    message = f"{path} lacks the vectors of 1 of 4 recordings (d.wav); add them under these names."
    assert error_of(load_examples, manifest, spec) == (FeatureError, message)
    write_table(path, ["v", "x", "y", "z"])
    message = (
        f"{path} lacks the vectors of 4 of 4 recordings ({', '.join(names[:3])} and 1 more); "
        "add them under these names."
    )
    assert error_of(load_examples, manifest, spec) == (FeatureError, message)
    write_table(path, [*names, "b.wav"], np.vstack([VECTORS, VECTORS[:1]]))
    message = f"{path} names recordings more than once (b.wav); keep one vector of each."
    assert error_of(load_examples, manifest, spec) == (FeatureError, message)
    holes = np.where(np.arange(4)[:, None] == names.index("c.wav"), np.nan, VECTORS)
    write_table(path, names, holes)
    message = f"{path}: vectors hold NaN or infinite values (c.wav); compute them again."
    assert error_of(load_examples, manifest, spec) == (FeatureError, message)
    write_table(path, names)
    message = f"width is 5, but vectors:{path} returns 3 values; set width: 3."
    assert error_of(load_examples, manifest, replace(spec, width=5)) == (ConfigError, message)


def test_a_table_that_holds_pickled_objects_is_not_unpickled(manifest, tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    spec = EmbeddingSpec(source=f"vectors:{tmp_path / 'v.npz'}", width=3)
    advice = "save text and numbers, no Python objects, with np.savez(FILE, names=..., vectors=...)."
    objects = np.array([Hostile()] * 4, dtype=object)
    np.savez(tmp_path / "v.npz", names=objects, vectors=VECTORS)
    message = (
        f"{tmp_path}/v.npz cannot be read as .npz (Object arrays cannot be loaded when allow_pickle=False); {advice}"
    )
    assert error_of(load_examples, manifest, spec) == (FeatureError, message)
    (tmp_path / "v.npz").write_bytes(pickle.dumps(Hostile()))
    kind, message = error_of(load_examples, manifest, spec)
    assert kind is FeatureError
    assert message.endswith(advice)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"names": np.array(["a"])}, "{path} lacks an array; save it with np.savez(FILE, names=..., vectors=...)."),
        (
            {"names": np.array([1, 2]), "vectors": VECTORS[:2]},
            "{path}: names are int64 and vectors float64; give text and numbers.",
        ),
        (
            {"names": np.array(["a", "b"]), "vectors": VECTORS},
            "{path}: names have the shape (2,) and vectors (4, 3); give (N,) and (N, width).",
        ),
        (
            {"names": np.array(["a", "b"]), "vectors": VECTORS[:2, :0]},
            "{path} holds 2 vectors of 0 values; give at least one each.",
        ),
    ],
)
def test_archives_of_another_form(manifest, tmp_path, arrays, message):
    path = tmp_path / "v.npz"
    np.savez(path, **arrays)
    spec = EmbeddingSpec(source=f"vectors:{path}", width=3)
    assert error_of(load_examples, manifest, spec) == (FeatureError, message.format(path=path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,0,1,2\na.wav,1,2,3\n", "{path}: the first column is 'file'; call it 'clip'."),
        (
            "clip,0,1\na.wav,1,loud\n",
            "{path} cannot be read as CSV (could not convert string to float: 'loud'); "
            "give names, then numbers, in UTF-8.",
        ),
        ("clip,0\n", "{path} holds 0 vectors of 1 values; give at least one each."),
        ("clip\na.wav\n", "{path} holds 1 vectors of 0 values; give at least one each."),
        ("clip,0,1\na.wav,1,2,3\n", "{path} has rows longer than its first line; name a column for each value."),
        ("", "{path} cannot be read as CSV (No columns to parse from file); give names, then numbers, in UTF-8."),
    ],
)
def test_csv_of_another_form(manifest, tmp_path, text, message):
    path = tmp_path / "v.csv"
    path.write_text(text)
    spec = EmbeddingSpec(source=f"vectors:{path}", width=3)
    kind, given = error_of(load_examples, manifest, spec)
    assert kind is FeatureError
    assert given == message.format(path=path)


def test_missing_table_and_unknown_ending(manifest, tmp_path):
    path = tmp_path / "v.npz"
    spec = EmbeddingSpec(source=f"vectors:{path}", width=3)
    message = f"vectors:{path}: file {path} does not exist; correct the path in source."
    assert error_of(load_examples, manifest, spec) == (WeightsError, message)
    (tmp_path / "v.npy").write_bytes(b"")
    message = "Unknown ending of a file of vectors '.npy'. Did you mean '.npz'? Known: .csv, .npz."
    wrong = EmbeddingSpec(source=f"vectors:{tmp_path / 'v.npy'}", width=3)
    assert error_of(load_examples, manifest, wrong) == (UnknownNameError, message)


def test_a_new_recording_has_no_vector(manifest, tmp_path):
    spec = write_table(tmp_path / "v.npz", manifest.names)
    message = (
        f"{spec.source} is a table of vectors and has none for a new recording; "
        "train on a source that computes vectors: hf:, onnx:, mel or mfcc."
    )
    assert error_of(embed, noise(800), spec) == (FeatureError, message)
    path = manifest.paths[0]
    assert error_of(FeatureCache(tmp_path).clip, path, spec) == (AudioError, f"{path}: {message}")


# Through the data layer -----------------------------------------------------------------------------------------------


def test_examples_of_embeddings_are_cached(manifest, tmp_path, monkeypatch):
    store = FeatureCache(tmp_path)
    examples = load_examples(manifest, MFCC, cache=store)
    assert examples.features.shape == (4, 1, 39)
    for path, frames in zip(manifest.paths, examples.features, strict=True):
        waveform = audio.read(path, 22_050)[0]
        np.testing.assert_array_equal(frames[0], embed(waveform, MFCC))
    monkeypatch.setattr(embeddings, "embed", None)
    np.testing.assert_array_equal(load_examples(manifest, MFCC, cache=store).features, examples.features)
    assert store.size()[0] == 4


def test_digests_of_signal_features():
    assert len({MEL.digest(), MFCC.digest(), MFCCSpec().digest()}) == 3
    assert MEL.digest() == replace(MEL).digest()


# Width and sample rate of a source -----------------------------------------------------------------------------------


def test_width_and_rate_are_read_from_the_source(hubert, waveform_graph, nemo_graph, manifest, tmp_path):
    table = write_table(tmp_path / "table.npz", manifest.names)
    found = {
        name: (spec.width, spec.sample_rate)
        for name, spec in {
            "mel": embedding_spec("mel"),
            "mfcc": embedding_spec("mfcc"),
            "hf": embedding_spec(hubert.spec.source),
            "waveforms": embedding_spec(f"onnx:{waveform_graph}", sample_rate=8_000),
            "nemo": embedding_spec(f"onnx:{nemo_graph}"),
            "vectors": embedding_spec(table.source),
        }.items()
    }
    assert found == {
        "mel": (80, 22_050),
        "mfcc": (39, 22_050),
        "hf": (16, 16_000),
        "waveforms": (3, 8_000),
        "nemo": (16, 16_000),
        "vectors": (3, 16_000),
    }
    assert embedding_spec(hubert.spec.source, layer=1).layer == 1


def test_rates_and_layers_that_a_source_does_not_have_raise(hubert, tmp_path):
    for settings, message in (
        ({"sample_rate": 8_000}, "sample_rate is 8000, but .* takes 16000 Hz; set sample_rate: 16000"),
        ({"sample_rate": 0}, "sample_rate is 0; it must be an integer of at least 1"),
        ({"layer": 3}, "layer is 3, but .* has 2; use 0 to 2"),
    ):
        with pytest.raises(ConfigError, match=message):
            embedding_spec(hubert.spec.source, **settings)
    with pytest.raises(WeightsError, match="does not exist"):
        embedding_spec(f"vectors:{tmp_path / 'none.npz'}")
