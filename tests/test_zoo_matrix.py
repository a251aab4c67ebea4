"""The zoo's matrix: every figure counted by hand, the page, the picture, the command."""
import json

import numpy as np
import pytest

from npae.figures.zoo import ONLY_OTHERS, SEEN, WORDS, Column, zoo_matrix
from npae.lab import zoo
from npae.lab.planting import Bug, Edit
from npae.lab.zoo import __main__ as command
from npae.lab.zoo import matrix
from npae.lab.zoo.kinds import KINDS, kind, markdown, rooms, sentence
from npae.lab.zoo.trial import PARTS, Trial

BACKWARD = Edit("npae.kernels.reference:dense_backward", "x.T @ dz", "-x.T @ dz")


def a_bug(name, killed_by="G", says=("wrong sign",), room="Dense", did="takes |x| for x."):
    return Bug(room, name, did, "Dense(5, 3)", (BACKWARD,), killed_by, says)


TRIALS = [
    Trial(a_bug("found"), frozenset("GA"), ("dW has the wrong sign",), True),
    Trial(a_bug("half_seen", "GS"), frozenset("G"), ("gradient check: off",), False),
    Trial(a_bug("not_seen", "GS"), frozenset(), (), False),
    Trial(a_bug("called_otherwise", "G"), frozenset("GL"), ("dW is the transpose",), True),
    Trial(a_bug("wordless_consistent", "R", ()), frozenset("RM"), (), False),
    Trial(a_bug("explained_without_words", "S", (), "Adam"), frozenset("S"), ("t is one ahead",), True),
]


def test_the_summary_counts_and_lists_what_is_the_matter():
    assert matrix.counts(TRIALS) == {"bugs": 6, "killed": 5, "as foretold": 4, "with words": 4, "named": 1,
                                     "misnamed": 2, "by no gradient check": 2}
    text = matrix.summary(TRIALS)
    assert "6 bugs: 5 killed, 4 by all the parts" in text and "named: 1 of 6 (16.7 %)" in text
    assert "Survivors:\n  Dense.not_seen: nothing sees it" in text
    assert "  Dense.half_seen: seen by gradient, not by state" in text
    assert "Dense.called_otherwise: dW is the transpose" in text and "Adam.explained_without_words" in text
    assert "Dense.found" not in text


def test_the_page_has_a_row_a_bug_with_its_marks_and_its_word():
    page = matrix.as_markdown(TRIALS)
    rows = [line for line in page.split("### Dense")[1].splitlines() if line.startswith("| ")]
    cells = {row.split(" | ")[0].strip("|* "): [cell.strip() for cell in row.strip("|").split("|")] for row in rows}
    assert cells["found"][1:] == ["It takes &#124;x&#124; for x.", "●", "●", "", "", "", "", "", "yes", ""]
    assert cells["half_seen"][2:] == ["●", "", "", "missed", "", "", "", "no", ""]
    assert cells["not_seen"][2:] == ["missed", "", "", "missed", "", "", "", "no", "nothing"]
    assert cells["called_otherwise"][9] == "***misnamed***"
    assert cells["wordless_consistent"][6:] == ["●", "", "●", "–", "reference, moments"]
    assert "| **wordless_consistent** |" in page and "| found |" in page
    assert "[Dense](#dense) 5" in page and "- optimizers and training: [Adam](#adam) 1" in page
    assert "## Survivors" in page and "## Misnamed" in page
    assert "| bugs that it sees | 3 | 1 | 1 | 1 | 1 | 0 | 1 |" in page
    assert "| that nothing else sees | 1 | 0 | 0 | 1 | 0 | 0 | 0 |" in page
    for name, reason in zoo.not_here().items():
        assert f"| {name} | {markdown(reason)} |" in page
    widths = {line.count("|") for line in page.split("### Dense")[1].split("###")[0].splitlines() if line}
    assert widths == {12}  # no cell breaks its table


def test_a_page_without_trouble_has_no_heading_for_it():
    page = matrix.as_markdown(TRIALS[:1])
    assert not {"## Survivors", "## Misnamed", "### Adam"} & set(page.splitlines())


def test_the_picture_has_a_column_a_bug_in_the_colour_of_who_sees_it():
    kinds = matrix.columns(TRIALS)
    assert list(kinds) == ["layers", "optimizers and training"] and set(kinds) <= set(KINDS)
    assert kinds["layers"]["Dense"][4] == Column((False, False, False, False, True, False, True), False, "wordless")
    figure = zoo_matrix(kinds, list(PARTS.values()))
    (ax,) = figure.axes
    colours = [tuple(np.round(255 * c[:3]).astype(int)) for c in ax.collections[0].get_facecolor()]
    assert len(colours) == 6 * (len(PARTS) + 1)

    def drawn(colour):
        return colours.count(tuple(int(colour[i:i + 2], 16) for i in (1, 3, 5)))

    assert (drawn(SEEN), drawn(ONLY_OTHERS), drawn(WORDS["misnamed"]), drawn(WORDS["named"])) == (5, 3, 2, 1)
    texts = [text.get_text() for text in ax.texts]
    assert texts[:8] == [*PARTS.values(), "named"]
    assert texts[8:16] == ["3", "1", "1", "1", "1", "0", "1", "1"]
    assert {"Dense", "Adam", "layers"} <= set(texts)
    assert any("6 bugs" in text.get_text() and "2 of them (33%)" in text.get_text() for text in figure.texts)


def test_many_rooms_go_into_bands_of_about_the_same_length_and_every_bug_is_drawn_once():
    column = Column((True,), True, "named")
    figure = zoo_matrix({"layers": {f"room {i}": [column] * 30 for i in range(19)}, "models": {"VAE": [column]}}, ["G"])
    drawn = [len(ax.collections[0].get_facecolor()) // 2 for ax in figure.axes]
    assert sum(drawn) == 571 and len(drawn) == 3 and max(drawn) - min(drawn) <= 60
    with pytest.raises(ValueError, match="nothing to draw: the zoo has 0 bugs"):
        zoo_matrix({}, ["G"])


def test_the_command_puts_a_room_on_trial_and_writes_three_files(tmp_path, capsys):
    files = [str(tmp_path / name) for name in ("zoo.md", "zoo.png", "zoo.json")]
    assert command.main(["Heads", "--markdown", files[0], "--picture", files[1], "--json", files[2]]) == 0
    assert "4 bugs: 4 killed, 4 by all the parts" in capsys.readouterr().out
    found = json.loads((tmp_path / "zoo.json").read_text())
    assert [bug["name"] for bug in found["bugs"]] == [bug.name for bug in zoo.bugs("Heads")]
    assert all(set(bug["killed_by"]) <= set(bug["seen_by"]) and bug["said"] for bug in found["bugs"])
    page = (tmp_path / "zoo.md").read_text()
    assert found["counts"]["killed"] == 4 and "### Heads" in page and "](zoo.png)" in page
    assert (tmp_path / "zoo.png").read_bytes()[:4] == b"\x89PNG"


def test_a_survivor_or_a_missed_part_is_exit_status_1(monkeypatch, capsys):
    for bug, status in ((a_bug("real", "G"), 0), (a_bug("foretold_wrongly", "GM"), 1)):
        monkeypatch.setattr(zoo, "bugs", lambda room=None, bug=bug: (bug,))
        assert command.main([]) == status
    assert "Dense.foretold_wrongly: seen by gradient, adjoint, not by moments" in capsys.readouterr().out


def test_an_unknown_room_and_no_processes_are_one_sentence(capsys):
    assert command.main(["Cellar"]) == 2
    assert "the zoo has no bugs of 'Cellar': use one of Dense, " in capsys.readouterr().err
    assert command.main(["Heads", "--jobs", "0"]) == 2
    assert "--jobs must be at least 1, got 0" in capsys.readouterr().err


@pytest.mark.slow
def test_processes_give_the_trials_of_one():
    bugs = zoo.bugs("Heads")
    assert list(matrix.run(bugs, 2)) == list(matrix.run(bugs))


def test_every_room_has_a_kind_and_every_sentence_a_subject():
    every = rooms(*KINDS)
    assert set(every) == {bug.room for bug in zoo.bugs()}
    assert [kind(room) for room in ("Dense", "gaussian_kl", "VAE", "fit", "fast_conv")] == list(KINDS)
    shown = {bug.did: sentence(bug) for bug in zoo.bugs()}
    assert shown["forgets the 1/N in the gradient."] == "It forgets the 1/N in the gradient."
    for did in ("dW has its in- and out-channels swapped, where there are as many.", "dW is made with |x|.",
                "dlogits is divided by the length of a picture.", "m averages the squared gradient as v does, and "
                "loses its sign.", "sqrt(v + eps).", "The gradient of W is subtracted."):
        assert shown[did] == did
    firsts = {text.split()[0] for text in shown.values() if text.split()[0].isalpha() and text[0].islower()}
    assert firsts <= {"alpha", "b", "beta", "dW", "db", "decay", "dlogits", "dmu", "dx", "dy", "dz", "grad", "m", "not",
                      "p", "restore", "rho", "step", "t", "theta", "x", "y", "z"}, "none of them is a verb"
