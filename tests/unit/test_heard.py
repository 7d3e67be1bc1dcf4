"""The list of what a model has heard."""

from serzoo.training.heard import HEARD, count_heard, read_heard, write_heard

HASHES = [f"{number:064x}"[::-1] for number in range(6)]


def test_recordings_are_counted(tmp_path):
    write_heard(tmp_path, HASHES[:4])
    model = tmp_path / "model.keras"
    assert count_heard(model, HASHES[3:]) == 1
    assert count_heard(model, HASHES[4:]) == 0
    assert len(read_heard(model)) == 4


def test_what_pretrained_models_have_heard_is_heard_too(tmp_path):
    write_heard(tmp_path / "first", HASHES[:2])
    known, unknown = tmp_path / "first" / "model.keras", tmp_path / "other" / "model.keras"
    write_heard(tmp_path / "second", HASHES[2:3], [known, unknown])
    assert count_heard(tmp_path / "second" / "model.keras", HASHES) == 3


def test_without_a_list_nothing_is_known(tmp_path):
    assert count_heard(tmp_path / "model.keras", HASHES) is None
    assert not (tmp_path / HEARD).exists()
