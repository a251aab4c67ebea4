"""The labs, demos 13 to 20: each stands in the table with a picture that it draws, and ends with something to try."""
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from npae import data, models, nets, optim, train

FOLDER = Path(__file__).parent.parent / "demos"
LABS = [demo for demo in sorted(FOLDER.glob("[0-9][0-9]_*.py")) if 13 <= int(demo.name[:2]) <= 20]
ROWS = {row[0]: row for row in re.findall(r"\| \[\d\d\]\((\S+\.py)\) \| (.+?) \| (.+?) \| (.+?) \| `(\S+)` \|",
                                          (FOLDER / "README.md").read_text())}


def test_there_are_eight_labs_in_the_order_of_the_table():
    numbers = [int(name[:2]) for name in ROWS]
    assert [int(lab.name[:2]) for lab in LABS] == list(range(13, 21)) and numbers == sorted(numbers)


@pytest.mark.parametrize("lab", LABS, ids=lambda lab: lab.stem)
def test_a_lab_stands_in_the_table_with_its_question_and_a_picture_that_it_draws(lab):
    text = lab.read_text()
    _, question, promise, _, picture = ROWS[lab.name]
    assert question.split(":")[0].split(",")[0].split("?")[0] in text.splitlines()[0]
    assert re.search(r"\d", promise) and f'pictures / "{picture}"' in text


@pytest.mark.parametrize("lab", LABS, ids=lambda lab: lab.stem)
def test_a_lab_names_its_own_folder_and_ends_with_something_to_try(lab):
    *_, last = lab.read_text().split("# %% [markdown]\n")
    assert last.startswith("# Try next: ") and all(line.startswith("#") for line in last.splitlines())
    assert f'lesson.begin("{lab.name}"' in lab.read_text()


@pytest.fixture
def lesson(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.chdir(tmp_path)
    import lesson

    return lesson


def test_in_a_notebook_a_lab_has_no_flags_and_no_docstring(lesson, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    monkeypatch.setattr(sys, "argv", ["ipykernel_launcher.py", "-f", "kernel.json"])
    for doc in (None, "Automatically created module for IPython interactive environment"):
        digits, short, pictures = lesson.begin("13_the_v_curve.py", doc)
        assert digits.name == "strokes" and not short and pictures == Path("demo-pictures/13_the_v_curve")
    assert not capsys.readouterr().out and pictures.is_dir()


def test_a_way_holds_the_start_and_every_few_steps_and_a_loss_is_that_of_each_theta(lesson):
    digits, rng = data.load("strokes").first(200), np.random.default_rng(0)
    model = models.Autoencoder(nets.mlp_encoder(digits.shape, [4], rng=rng),
                               nets.mlp_decoder(digits.shape, [4], rng=rng))
    start, way = model.theta.copy(), lesson.Way(every=3)
    train.fit(model, digits, optimizer=optim.Adam(1e-3), epochs=2, batch_size=50, seed=0, callbacks=[way])
    assert len(way.thetas) == 1 + 8 // 3 and np.array_equal(way.thetas[0], start)
    x = digits.train_x[:5].astype(np.float32) / 255
    found = lesson.losses_at([model.theta.copy(), start], model, x)
    assert np.array_equal(model.theta, start) and found[1] == model.loss(x)["loss"] > found[0]
