"""Every demo in its short form: it runs from end to end, keeps its promise, and leaves its pictures."""
import re
import runpy
import sys
from pathlib import Path

import pytest

DEMOS = sorted((Path(__file__).parent.parent / "demos").glob("[0-9][0-9]_*.py"))


@pytest.fixture
def run(tmp_path, monkeypatch):
    def run(demo, *flags):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [str(demo), *flags])
        monkeypatch.syspath_prepend(demo.parent)
        runpy.run_path(str(demo), run_name="__main__")
        return tmp_path / "demo-pictures" / demo.stem

    return run


@pytest.mark.usefixtures("own_core")
@pytest.mark.parametrize("demo", DEMOS, ids=lambda demo: demo.stem)
def test_a_demo_keeps_its_promise_and_leaves_pictures(demo, run, capsys):
    pictures = run(demo, "--short")
    said = capsys.readouterr().out
    assert ", promised " in said and list(pictures.glob("*.png"))


@pytest.mark.parametrize("demo", DEMOS, ids=lambda demo: demo.stem)
def test_a_demo_opens_with_its_question_its_promise_and_its_minutes(demo):
    text = demo.read_text()
    opening = "\n".join(text.splitlines()[:14])
    assert "?" in opening and re.search(r"\d", opening) and "minute" in opening
    assert text.count("# %%") >= 3


@pytest.mark.slow
@pytest.mark.parametrize("demo", DEMOS, ids=lambda demo: demo.stem)
def test_a_demo_keeps_its_promise_in_full(demo, run, capsys):
    run(demo)
    assert ", promised " in capsys.readouterr().out
