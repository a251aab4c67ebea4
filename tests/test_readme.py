"""The README tells the truth: its recipes and commands exist, and its example prints what it says."""
import re
import subprocess
import sys
from pathlib import Path

import pytest

from npae.recipes import RECIPES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_every_recipe_stands_in_the_readme():
    for name in RECIPES:
        assert f"| `{name}` |" in README


def test_every_command_stands_in_the_readme():
    from npae.cli import parser

    commands = next(action for action in parser()._actions if action.dest == "command").choices
    for command in commands:
        assert f"`npae {command}" in README


def test_every_file_that_the_readme_shows_or_names_exists():
    for path in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / path).is_file(), path
    for path in re.findall(r"`((?:models|layers|kernels|gradcheck)/\w+\.py)`", README):
        assert (ROOT / "npae" / path).is_file(), path


def test_the_gate_installs_and_tests_as_the_readme_says():
    script = (ROOT / ".ci" / "run").read_text()
    install, run = re.search(r"\.venv/bin/pip install '(\S+)' && \.venv/bin/python (-m pytest.*)", README).groups()
    assert f"'{install}'" in script
    assert script.rstrip().endswith(run)


def test_the_example_prints_what_the_readme_says():
    example, printed = re.search(r"```python\n(.*?)```.*?```\n(.*?)```", README, re.DOTALL).groups()
    result = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, check=True)
    numbers = re.compile(r"-?\d+\.\d+")
    assert result.stdout.split()[0] == "True"
    found, said = ([float(n) for n in numbers.findall(text)] for text in (result.stdout, printed))
    assert found == pytest.approx(said, abs=0.3)  # the last bits of a training depend on the machine


MORE = ("zoo", "v-curve", "taylor", "explain-im2col", "explain-estimators", "trace")


def test_every_recipe_has_its_picture_in_the_readme():
    for name in RECIPES:
        assert f"](demos/gallery/{name}.png)" in README, name
    for name in MORE:
        assert f"](demos/gallery/{name}.png)" in README, name
    assert {path.stem for path in (ROOT / "demos" / "gallery").iterdir()} == {*RECIPES, *MORE}, "none that is not shown"


def test_the_table_of_the_family_is_the_scripts(monkeypatch):
    """All but the measured columns is made anew here; these are of runs that are not in the repository."""
    monkeypatch.syspath_prepend(ROOT / "demos")
    import family_table as family

    assert set(family.PICTURES) == set(family.DEMOS) == set(RECIPES)
    text = README.split(family.BEGIN)[1].split(family.END)[0]
    rows, made = ([line.split(" | ") for line in part.splitlines()] for part in (text, family.table({})))
    assert [row[:4] for row in rows] == [row[:4] for row in made]
    numbers = {"recipe": "ae", "test": {"mse": 0.01, "mse_pca": 0.02, "elbo": -1.5}}
    assert "| 7.84 (15.68) | ELBO −1.50 |" in family.table({"ae": numbers})
    assert family.filled(README, text) == README
