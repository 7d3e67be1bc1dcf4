"""The error for a name that nobody knows: one line, the nearest name first, never a page of names."""

import re

import pytest

from serzoo.errors import UnknownNameError, unknown_name
from serzoo.recipes import list_recipes, load_recipe


@pytest.mark.parametrize(
    ("name", "allowed", "expected"),
    [
        ("mfc", ["mfcc", "mel"], "Unknown thing 'mfc'. Did you mean 'mfcc'? Known: mel, mfcc."),
        ("MFCC", ["mel", "mfcc"], "Unknown thing 'MFCC'. Did you mean 'mfcc'? Known: mel, mfcc."),
        ("hf", ["Mfcc", "mel"], "Unknown thing 'hf'. Known: Mfcc, mel."),
        (None, [], "Unknown thing 'None'. Known: none."),
    ],
)
def test_few_names_are_all_said(name, allowed, expected):
    assert str(unknown_name("thing", name, allowed)) == expected


def test_of_many_names_the_nearest_are_said():
    names = [f"layer_{number:02d}" for number in range(24)]
    assert str(unknown_name("layer", "layer_3", names)).endswith(f"Known: {', '.join(names)}.")
    message = str(unknown_name("layer", "outptu", [*names, "output"]))
    known = re.fullmatch(r"Unknown layer 'outptu'\. Did you mean 'output'\? Known: (.*) and 13 more\.", message)[1]
    assert len(set(known.split(", "))) == 12
    assert known.startswith("output, ")


def test_a_misspelt_config_does_not_list_all_configs():
    with pytest.raises(UnknownNameError, match="Did you mean 'timnet-ravdess'") as raised:
        load_recipe("timnet-ravdes")
    assert str(raised.value).endswith(f"and {len(list_recipes()) - 12} more.")
    assert len(str(raised.value)) < 400
