"""The list of a model's training recordings."""

from serzoo.experiments.provenance import PROVENANCE, count_seen, read_provenance, write_provenance

HASHES = [f"{number:064x}"[::-1] for number in range(6)]


def test_recordings_are_counted(tmp_path):
    write_provenance(tmp_path, HASHES[:4])
    model = tmp_path / "model.keras"
    assert count_seen(model, HASHES[3:]) == 1
    assert count_seen(model, HASHES[4:]) == 0
    assert len(read_provenance(model)) == 4


def test_recordings_of_pretrained_models_are_added(tmp_path):
    write_provenance(tmp_path / "first", HASHES[:2])
    known, unknown = tmp_path / "first" / "model.keras", tmp_path / "other" / "model.keras"
    write_provenance(tmp_path / "second", HASHES[2:3], [known, unknown])
    assert count_seen(tmp_path / "second" / "model.keras", HASHES) == 3


def test_without_a_list_nothing_is_known(tmp_path):
    assert count_seen(tmp_path / "model.keras", HASHES) is None
    assert not (tmp_path / PROVENANCE).exists()
