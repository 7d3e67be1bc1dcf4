import pytest

from serzoo.cli import use_commands
from serzoo.recipes import list_recipes, load_recipe


@pytest.fixture(scope="module")
def summaries():
    return {name: load_recipe(name).summary for name in list_recipes()}


def test_every_recipe_is_listed_with_its_summary(run, summaries):
    code, out, _ = run("list")
    assert code == 0
    listed = out[out.index("Recipes\n") :].splitlines()[1:]
    shown = dict(line.split(maxsplit=1) for line in listed if line.strip())
    assert shown == summaries


def test_a_summary_that_is_not_on_a_line_of_its_own_is_found(tmp_path, monkeypatch):
    name = list_recipes()[0]
    (tmp_path / f"{name}.yaml").write_text("{summary: 'inside'}")
    monkeypatch.setattr("serzoo.recipes.config_folder", lambda: tmp_path)
    monkeypatch.setattr("serzoo.recipes.load_recipe", lambda given: type("Recipe", (), {"summary": f"whole {given}"}))
    assert use_commands.recipe_summary(name) == f"whole {name}"
