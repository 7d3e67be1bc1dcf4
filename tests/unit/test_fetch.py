"""Pretrained weights from folders, addresses and the hub: downloaded once, checked, and refused in one line."""

import hashlib
import json
import re
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

import serzoo
from serzoo import strict_yaml
from serzoo.errors import ConfigError, SerzooError, UnknownNameError, WeightsError
from serzoo.weights import fetch, store
from serzoo.weights.check_clips import EMOTION_CLIP

NAME = "timnet.tiny_v1"
WEIGHTS = f"{NAME}.weights.h5"
CARD = f"{NAME}.yaml"


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder, records the requests, and sends half of the paths in ``torn``."""

    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path in self.server.moved:
            self.send_response(302)
            self.send_header("Location", self.server.moved[self.path])
            self.end_headers()
            return None
        if self.path not in self.server.torn:
            return super().do_GET()
        content = Path(self.directory, self.path.lstrip("/")).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])
        return None

    def log_message(self, *_):
        """Print nothing."""


@pytest.fixture
def folder(tiny_set, tmp_path):
    """A copy of pretrained weights that may be damaged."""
    return shutil.copytree(tiny_set, tmp_path / "sets")


@pytest.fixture
def server(folder, monkeypatch):
    """The folder at an address, without a proxy in between."""
    monkeypatch.setenv("NO_PROXY", "*")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as found:
        found.asked, found.torn, found.moved = [], set(), {}
        found.url = f"http://127.0.0.1:{found.server_port}"
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of the test's own."""
    monkeypatch.setenv("SERZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def kept(cache):
    """Return the names of all files in the cache."""
    return sorted(path.name for path in cache.rglob("*") if path.is_file())


def change_card(folder, **changes):
    path = folder / CARD
    values = json.loads(json.dumps(strict_yaml.read(path))) | changes
    path.write_text(strict_yaml.dump({key: value for key, value in values.items() if value is not None}))


def describe_again(folder):
    """Update the card's size and hash of the weights file."""
    content = (folder / WEIGHTS).read_bytes()
    change_card(folder, bytes=len(content), sha256=store.hashlib.sha256(content).hexdigest())


def refused(source, error=WeightsError, **arguments):
    with pytest.raises(error) as caught:
        serzoo.load(source, **arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Sources of weights ---------------------------------------------------------------------------------------------------


def test_weights_are_loaded_from_their_folder_and_by_their_card(folder):
    for source in (folder, str(folder), folder / CARD, str(folder / CARD), (folder / CARD).as_uri(), folder.as_uri()):
        classifier = serzoo.load(source)
        assert classifier.card.name == NAME
    assert classifier.card.licence.startswith("free: ")
    assert (classifier.threshold, classifier.card.calibration.temperature) == (0.75, 2.5)


def test_weights_of_the_package_are_loaded_by_name(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(store, "FILES", folder)
    monkeypatch.chdir(tmp_path)
    (tmp_path / NAME).mkdir()
    assert serzoo.list_pretrained() == serzoo.list_pretrained("emotion") == [NAME]
    assert serzoo.load(NAME).card.name == NAME
    assert serzoo.list_pretrained("gender") == []
    with pytest.raises(
        UnknownNameError, match=r"Unknown kind of pretrained weights 'emtion'\. Did you mean 'emotion'\?"
    ):
        serzoo.list_pretrained("emtion")
    assert "Did you mean 'timnet.tiny_v1'?" in refused("timnet.tiny_v2", UnknownNameError)
    assert "holds no model.keras" in refused(Path(NAME))
    monkeypatch.setattr(store, "DEFAULT", "timnet.tiny_v0")
    with pytest.raises(ConfigError, match="No pretrained emotion weights come with this serzoo"):
        store.default_pretrained()
    monkeypatch.setattr(store, "DEFAULT", NAME)
    assert store.default_pretrained() == NAME


def test_without_pretrained_weights_a_name_comes_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "FILES", tmp_path)
    message = refused(NAME, UnknownNameError)
    assert message.startswith(
        f"Unknown model file or pretrained weights {NAME!r}; none come with this serzoo: give a fold"
    )
    with pytest.raises(UnknownNameError, match="none come with this serzoo"):
        store.pretrained_card(NAME)


def test_a_folder_of_several_cards_is_ambiguous(folder):
    shutil.copy(folder / WEIGHTS, folder / "other.weights.h5")
    shutil.copy(folder / CARD, folder / "other.yaml")
    assert f"holds several model cards; name one: {folder / 'other.yaml'}, {folder / CARD}." in refused(folder)


def test_weights_are_downloaded_once(server, cache):
    source = f"{server.url}/{CARD}"
    expected = serzoo.load(source).model.get_weights()
    assert server.asked == [f"/{CARD}", f"/{WEIGHTS}"]
    assert kept(cache) == [WEIGHTS, CARD]
    for found, weights in zip(serzoo.load(source).model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(found, weights)
    assert len(server.asked) == 2, "no second download"


def test_a_card_of_the_package_may_name_an_address(server, folder, cache, tmp_path, monkeypatch):
    entry = tmp_path / "package"
    entry.mkdir()
    change_card(folder, url=f"{server.url}/{WEIGHTS}")
    shutil.move(folder / CARD, entry)
    monkeypatch.setattr(store, "FILES", entry)
    assert serzoo.list_pretrained() == [NAME]
    assert server.asked == [], "listing downloads nothing"
    assert serzoo.load(NAME).card.name == serzoo.load(NAME).card.name == NAME
    assert server.asked == [f"/{WEIGHTS}"]
    assert kept(cache) == [WEIGHTS]


def test_a_damaged_file_in_the_cache_is_downloaded_again(server, cache):
    source = f"{server.url}/{CARD}"
    serzoo.load(source)
    (path,) = cache.rglob(WEIGHTS)
    path.write_bytes(path.read_bytes()[:-1])
    serzoo.load(source)
    assert server.asked == [f"/{CARD}", f"/{WEIGHTS}", f"/{WEIGHTS}"]


def test_a_hub_id_is_an_address():
    expected = "https://huggingface.co/some-body/their.sets/resolve/main/timnet.tiny_v1.yaml"
    assert fetch.card_address("hf://some-body/their.sets/timnet.tiny_v1") == expected
    assert fetch.card_address("hf://some-body/their.sets/timnet.tiny_v1.yaml") == expected
    at_revision = expected.replace("/main/", "/v1.0-rc/")
    for name in (NAME, CARD):
        assert fetch.card_address(f"hf://some-body/their.sets/{name}@v1.0-rc") == at_revision


def test_a_hub_id_is_downloaded_from_its_address(server, monkeypatch):
    monkeypatch.setattr(fetch, "HUB", server.url + "/{revision}/{name}.yaml")
    monkeypatch.setattr(Handler, "translate_path", lambda self, path: f"{self.directory}/{Path(path).name}")
    for source, revision in ((f"hf://me/sets/{NAME}", "main"), (f"hf://me/sets/{NAME}@v2", "v2")):
        assert serzoo.load(source).card.name == NAME
        assert f"/{revision}/{CARD}" in server.asked


@pytest.mark.parametrize(
    "source",
    [
        "hf://user/timnet.tiny_v1",
        "hf://user/repository/folder/timnet.tiny_v1",
        "https://example.org/timnet.tiny_v1.weights.h5",
        "https://example.org/",
        "ftp://example.org/timnet.tiny_v1.yaml",
        "http://example.org/timnet.tiny_v1.yaml",
        "https:///timnet.tiny_v1.yaml",
        "https://[bad/timnet.tiny_v1.yaml",
        "https://example.org:port/timnet.tiny_v1.yaml",
        "https://example.org/a\ntimnet.tiny_v1.yaml",
        "hf://user/../timnet.tiny_v1",
        "hf://user/repository/timnet.tiny_v1@..",
        "hf://user/repository/timnet.tiny_v1@",
    ],
)
def test_an_invalid_address_is_refused(source):
    assert refused(source).startswith(f"{source!r} is not an address of pretrained weights; give https://")


@pytest.mark.parametrize("source", ["~nobody-of-this-name/x", "~nobody-of-this-name/x.yaml", "~nobody-of-this-name"])
def test_an_unknown_home_folder_is_refused(run, source):
    assert refused(source, SerzooError).startswith(f"{source!r} begins with no user's home folder; write the path out.")
    code, _, err = run("predict", "-m", source, "x.wav")
    assert (code, err.count("\n")) == (2, 1)


def test_an_invalid_file_address_is_refused():
    assert refused("file://[bad/x.yaml").startswith("'file://[bad/x.yaml' is not the address of a card or folder")


# Refusals -------------------------------------------------------------------------------------------------------------


def test_no_response(server, cache):
    server.shutdown()
    server.server_close()
    message = refused(f"{server.url}/{CARD}")
    assert message.startswith(f"{server.url}/{CARD} cannot be downloaded (ConnectionError); check the connection")
    assert kept(cache) == []


def test_missing_weights(server, cache):
    message = refused(f"{server.url}/timnet.other_v1.yaml")
    assert message.startswith(
        f"{server.url}/timnet.other_v1.yaml cannot be downloaded (404 Client Error: File not found)"
    )
    assert list((cache / "pretrained").iterdir()) == [], "nor a folder"


def test_more_bytes_than_on_the_card_are_not_read(server, folder, cache):
    n_bytes = (folder / WEIGHTS).stat().st_size
    (folder / WEIGHTS).write_bytes(bytes(n_bytes + 1))
    message = refused(f"{server.url}/{CARD}")
    assert message.startswith(f"{server.url}/{WEIGHTS} has more than {n_bytes} bytes and was not kept")
    assert kept(cache) == [CARD]
    (folder / "other.yaml").write_bytes(bytes(1_000_001))
    assert "/other.yaml has more than 1000000 bytes" in refused(f"{server.url}/other.yaml")


def test_redirections_are_followed_to_allowed_addresses_only(server, folder):
    server.moved = {f"/old/{CARD}": f"/{CARD}", f"/old/{WEIGHTS}": f"/{WEIGHTS}"}
    assert serzoo.load(f"{server.url}/old/{CARD}").card.name == NAME
    elsewhere = server.url.replace("127.0.0.1", "127.1")  # the same, but by no name that is known to be
    server.moved = {f"/away/{CARD}": f"{elsewhere}/{CARD}"}
    server.asked.clear()
    message = refused(f"{server.url}/away/{CARD}")
    assert message.startswith(f"{server.url}/away/{CARD} leads to {elsewhere}/{CARD}, which is not https; contact")
    assert server.asked == [f"/away/{CARD}"], "and is not asked"
    server.moved = {f"/round/{CARD}": f"/round/{CARD}"}
    assert "is redirected more than 5 times" in refused(f"{server.url}/round/{CARD}")


def test_a_card_from_the_web_cannot_read_from_this_machine(server, folder, cache):
    change_card(folder, url=f"{server.url}/shut-down")
    address = f"https://example.com/{CARD}"
    kept_card = cache / "pretrained" / hashlib.sha256(address.encode()).hexdigest()[:16] / CARD
    kept_card.parent.mkdir(parents=True)
    shutil.copy(folder / CARD, kept_card)
    assert refused(address).startswith(f"{address} leads to {server.url}/shut-down, which is not https")
    assert server.asked == []


@pytest.mark.parametrize("file", [CARD, WEIGHTS])
def test_half_a_download_is_not_kept(server, cache, file):
    server.torn.add(f"/{file}")
    refused(f"{server.url}/{CARD}")
    assert file not in kept(cache)
    assert len(kept(cache)) <= 1
    server.torn.clear()
    serzoo.load(f"{server.url}/{CARD}")


def test_a_download_that_is_not_a_card_is_not_kept(server, folder, cache):
    (folder / CARD).write_text("name: some recipe\n")
    message = refused(f"{server.url}/{CARD}")
    assert message.startswith(f"{server.url}/{CARD} is not a valid model card")
    assert kept(cache) == []


def test_another_file_than_the_cards_is_not_kept(server, folder, cache):
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-1] + b"?")
    assert refused(f"{server.url}/{CARD}").startswith(f"{server.url}/{WEIGHTS} is not the file of its model card")
    assert kept(cache) == [CARD]


def test_a_file_of_another_size_or_content_is_refused(folder):
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content + b"0")
    assert f"has {len(content) + 1} bytes, its card states {len(content)}; get it again." in refused(folder)
    (folder / WEIGHTS).write_bytes(content[:-1] + b"?")
    assert "has the SHA-256 " in refused(folder)
    (folder / WEIGHTS).unlink()
    assert "cannot be read (No such file or directory); get it again." in refused(folder / CARD)


def test_other_probabilities_are_refused(folder):
    output = list(serzoo.load(folder).card.output)
    change_card(folder, output=[output[0] + 2e-5, *output[1:]])
    assert refused(folder).startswith(f"{NAME} returns ")


def test_another_temperature_is_refused(folder):
    calibration = strict_yaml.read(folder / CARD)["calibration"]
    change_card(folder, calibration={**calibration, "temperature": 1.0})
    assert refused(folder).startswith(f"{NAME} returns ")


def rewrite(folder, change):
    """Change the arrays of the file, and its size and hash on the card."""
    with h5py.File(folder / WEIGHTS, "r+") as file:
        change(file["layers/dense/vars"], file)
    describe_again(folder)


def replaced(vars_, shape):
    del vars_["0"]
    vars_["0"] = np.zeros(shape, np.float32)


def external(vars_, file):
    shape = vars_["0"].shape
    del vars_["0"]
    vars_.create_dataset("0", shape, "float32", external=[("/etc/hostname", 0, 4 * int(np.prod(shape)))])


def linked(vars_, file):
    del vars_["0"]
    vars_["0"] = h5py.ExternalLink("/somewhere/else.h5", "/secret")


def decoy(vars_, file):
    """The visible arrays are complete, but Keras would read those of another file."""
    secret = str(file.filename).replace(WEIGHTS, "secret.h5")
    with h5py.File(secret, "w") as other:
        other["secret"] = vars_["0"][()]
    file.move("layers/dense/vars/0", "decoy")
    vars_["0"] = h5py.ExternalLink(secret, "/secret")


def soft(vars_, file):
    file.move("layers/dense/vars/0", "decoy")
    vars_["0"] = h5py.SoftLink("/decoy")


def looped(vars_, file):
    file["layers/dense/again"] = file["layers"]


def twice(vars_, file):
    file["layers/decoy"] = vars_["0"]


@pytest.mark.filterwarnings("ignore:Skipping nested container")
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda vars_, file: replaced(vars_, (9, 9)), "values, not "),
        (lambda vars_, file: replaced(vars_, (3, 4)), "values, not "),
        (lambda vars_, file: vars_.create_dataset("7", (10**5, 10**6), "float32"), "values, not "),
        (lambda vars_, file: vars_.pop("0"), "arrays of"),
        (lambda vars_, file: file.move("layers/dense", "layers/other"), ""),
        (external, "refers to other files"),
        (linked, "/layers/dense/vars/0 is a link"),
        (decoy, "/layers/dense/vars/0 is a link"),
        (soft, "/layers/dense/vars/0 is a link"),
        (looped, "has two names"),
        (twice, "has two names"),
        (lambda vars_, file: file.create_dataset("text", data=b"words"), "/text holds no numbers"),
    ],
    ids=[
        "larger",
        "transposed",
        "huge",
        "missing",
        "renamed",
        "external",
        "linked",
        "decoy",
        "soft",
        "looped",
        "twice",
        "text",
    ],
)
def test_other_arrays_than_the_networks_are_refused(folder, change, reason):
    rewrite(folder, change)
    message = refused(folder)
    assert f"{WEIGHTS} does not hold the weights of its card's timnet (" in message
    assert reason in message


def test_a_file_that_is_not_hdf5_is_refused(folder):
    (folder / WEIGHTS).write_bytes(b"no arrays" * 10_000)
    describe_again(folder)
    assert "does not hold the weights of its card's timnet (" in refused(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"calibration": None}, "is not a valid model card (card: the key 'calibration' is missing; add it); get"),
        ({"calibration": {"temperature": 1}}, "(card, calibration: the key 'error_before', 'error_after', 'thresh"),
        ({"calibration": 1.5}, "(card: calibration is 1.5; it must be a set of keys and values); get it again."),
        ({"model": {"name": "timnet", "size": 1}}, "(card, model.size: Unknown key 'size'. Known: arguments, name)"),
        ({"mood": "sad"}, "(card, mood: Unknown key 'mood'."),
        ({"model": {"name": "timent"}}, "cannot be built (Unknown model 'timent'. Did you mean 'timnet'?"),
        ({"model": {"name": "timnet", "arguments": {"filter": 4}}}, "Did you mean 'filters'?"),
        ({"model": {"name": "timnet", "arguments": {"filters": "many"}}}, "cannot be built (filters is 'many'"),
        ({"model": {"name": "timnet", "arguments": {"class_names": ["a"]}}}, "cannot be built ("),
        ({"feature_spec": {"kind": "smell"}}, "cannot be built (Unknown"),
        ({"class_names": ["sad"]}, "cannot be built ("),
        (
            {"summary": "nice\nModel: another"},
            "summary is 'nice\\nModel: another'; it must be one line of printable char",
        ),
        ({"licence": "\x1b[2Jfree"}, "licence is '\\x1b[2Jfree'; it must be one line of printable characters"),
        ({"class_names": ["sad", "\x07"]}, "a class name is '\\x07'; it must be one line of printable characters"),
        ({"kind": "gender"}, "is not a valid model card (card, model: Unknown key 'model'."),
    ],
)
def test_a_damaged_card_is_refused(folder, changes, message):
    change_card(folder, **changes)
    assert message in refused(folder / CARD)


@pytest.mark.parametrize(
    ("key", "changes", "message"),
    [
        ("input", {"sample_rate": 10**15}, "it must be one of the clips of serzoo.weights.check_clips"),
        ("input", {**EMOTION_CLIP, "take": 1}, "it must be one of the clips of serzoo.weights.check_clips"),
        ("feature_spec", {"sample_rate": 10**15}, "feature_spec.sample_rate is 10000"),
        (
            "feature_spec",
            {"n_samples": 10**15},
            "feature_spec.n_samples is 1000000000000000; it must be at most 2400000",
        ),
        ("feature_spec", {"n_fft": 10**9}, "feature_spec.n_fft is 1000000000; it must be at most 8192"),
        (
            "feature_spec",
            {"n_samples": 2_000_000, "hop_length": 1},
            "feature_spec.hop_length is 1; it must be so large",
        ),
        ("feature_spec", {"n_samples": None, "sample_rate": 192_000, "hop_length": 1}, "feature_spec.hop_length is 1"),
        ("calibration", {"n": 0}, "(card: calibration.n is 0; it must be an integer of at least 1)"),
        ("scores", {"uar": None}, "(card: scores.uar is None; it must be a number in 0..1)"),
        ("scores", {"war": "high"}, "(card: scores.war is 'high'; it must be a number in 0..1)"),
    ],
)
def test_a_card_with_sizes_beyond_real_ones_is_refused(folder, key, changes, message):
    values = json.loads(json.dumps(strict_yaml.read(folder / CARD)[key])) | changes
    change_card(folder, **{key: values})
    assert message in refused(folder / CARD)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bytes": 2**40}, "(card: bytes is 1099511627776; it must be in 0..4294967296)"),
        ({"class_names": ["angry", "sad", "unknown"]}, "(card: class_names is ['angry', 'sad', 'unknown']; it must be"),
        ({"scores": {}}, "(card: scores.uar is None; it must be a number in 0..1)"),
        ({"url": "http://example.org/x"}, "(card: url is 'http://example.org/x'; it must be an address"),
        ({"url": "https://[bad/x"}, "(card: url is 'https://[bad/x'; it must be an address"),
        ({"url": "https://exa mple.org/x"}, "(card: url is 'https://exa mple.org/x'; it must be an address"),
    ],
)
def test_an_impossible_card_is_refused(folder, changes, message):
    change_card(folder, **changes)
    assert message in refused(folder / CARD)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("timnet", {"filters": 10**8}, "(card: filters is 100000000; it must be at most 65536)"),
        ("acrnn", {"filters": [128, 10**8]}, "(card: filters is 100000000; it must be at most 65536)"),
        (
            "timnet",
            {"filters": 60_000},
            "cannot be built (its weights take more than the {n_bytes} bytes of its f",
        ),
        ("timnet", {"n_blocks": 60_000}, "cannot be built (its weights take more than the {n_bytes} bytes of its"),
        ("vgg16", {"width": 1e300}, "cannot be built ("),
    ],
)
def test_a_network_larger_than_its_file_is_not_built(folder, monkeypatch, name, arguments, message):
    made = []
    initializer = keras.initializers.GlorotUniform.__call__

    def record(self, shape, *args, **kwargs):
        if tf.executing_eagerly():  # else the values are symbolic and take no memory
            made.append(np.prod(shape))
        return initializer(self, shape, *args, **kwargs)

    monkeypatch.setattr(keras.initializers.VarianceScaling, "__call__", record)
    change_card(folder, model={"name": name, "arguments": arguments})
    assert message.format(n_bytes=(folder / WEIGHTS).stat().st_size) in refused(folder / CARD)
    assert sum(made) * 4 < (folder / WEIGHTS).stat().st_size
    with keras.StatelessScope():
        pass  # at its end Keras creates the variables that are left over
    assert sum(made) * 4 < (folder / WEIGHTS).stat().st_size


@pytest.mark.parametrize(
    "changes", [{"temperature": 0.0}, {"temperature": -1}, {"threshold": 1.5}, {"accuracy": -0.1}, {"temperature": "1"}]
)
def test_a_calibration_out_of_range_is_refused(folder, changes):
    (name,) = changes
    calibration = json.loads(json.dumps(strict_yaml.read(folder / CARD)["calibration"]))
    change_card(folder, calibration={**calibration, **changes})
    assert re.search(rf"\(card(, calibration: |: calibration\.){name} is", refused(folder))


def test_names_and_features_are_not_given_with_pretrained_weights(folder):
    assert "The model card of " in refused(folder, ConfigError, class_names=("angry", "happy", "sad"))
    assert "The model card of " in refused(folder, ConfigError, recipe="timnet-ravdess")


def test_gender_weights_are_not_an_emotion_model():
    assert refused("gender-ravdess").startswith(
        "gender-ravdess classifies the speaker's gender; use it as a gender input"
    )


def test_emotion_weights_are_not_a_gender_classifier(folder, monkeypatch):
    from serzoo.classical.gender_classifier import load_gender_classifier

    monkeypatch.setattr(store, "FILES", folder)
    with pytest.raises(SerzooError, match=r"^timnet\.tiny_v1 classifies emotions; load it with serzoo\.load\.$"):
        load_gender_classifier(NAME)
