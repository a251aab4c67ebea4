"""The bug hunt: one true sentence among four, a report that does not give it away, a talk, and a quiz on paper."""
import re
import subprocess
import sys

import pytest

from npae import cli
from npae.kernels import reference
from npae.lab import bughunt, planting, quiz, subjects, zoo
from npae.lab.bughunt import Hunt, figure, hunt, take
from npae.lab.talk import play
from npae.lab.zoo.kinds import rooms, sentence

SEEDS = range(4)


def bug_called(room, name):
    return next(bug for bug in zoo.bugs(room) if bug.name == name)


def question(room, name, others=()):
    found = tuple(bug_called(room, other) for other in others)
    return Hunt(bug_called(room, name), found, tuple(range(len(found) + 1))[::-1])


def talk(asked, *words):
    """(right?, all that was shown): the hunter says these words, and goes."""
    said, shown = iter(words), []

    def ask(prompt):
        try:
            return next(said)
        except StopIteration:
            raise EOFError from None

    return play(asked, ask, shown.append), "\n".join(shown)


@pytest.mark.parametrize("room", ["Dense", "Bernoulli"])
def test_a_question_has_one_true_sentence_among_four(room):
    for seed in SEEDS:
        asked = hunt(room, seed)
        assert asked.bug.room == room
        assert len(set(asked.choices)) == 4 and asked.choices[asked.answer - 1] == sentence(asked.bug)
        assert all(other.room == room and sentence(other) in asked.choices for other in asked.others)
        assert hunt(room, seed) == asked, "the same seed asks the same"
    assert len({hunt(room, seed).bug.name for seed in SEEDS}) > 1
    assert len({hunt(room, seed).answer for seed in SEEDS}) > 1


def test_a_wrong_sentence_can_be_told_from_the_true_one():
    """Planted in the same place, it breaks other tests or gives other numbers, but for one all break other tests."""
    for seed in SEEDS:
        asked = hunt("Dense", seed)
        failing = []
        for bug in (asked.bug, *asked.others):
            with planting.planted(bug):
                report = subjects.check(asked.bug.subject, reference)
            assert not report.ok, f"{bug.name} would not be noticed in {asked.bug.subject}"
            wrong = [row.name for row in report.rows if not row.ok]
            failing.append([*wrong, *(line.claim for line in report.lines if line.status == "FAIL"), report.rows])
        assert all(facts != failing[0] for facts in failing[1:])
        assert sum(facts[:-1] == failing[0][:-1] for facts in failing[1:]) <= 1


def test_two_bugs_that_nobody_can_tell_apart_are_not_in_one_question(monkeypatch):
    true = bug_called("Dense", "db_of_the_first_image")
    twin = planting.Bug("Dense", "twin", "db is that of image 0.", true.subject,
                        (planting.Edit(true.edits[0].where, "_sum(dz, 0)", "1 * dz[0]"),), "GA")
    other = bug_called("Dense", "dx_missing")
    monkeypatch.setattr(bughunt, "_candidates", lambda bug, rng: iter([twin, other]))
    assert bughunt._others(true, None) == (other,)


def test_one_wrong_sentence_at_most_breaks_the_very_same_tests(monkeypatch):
    true, summed = bug_called("Dense", "db_missing"), bug_called("Dense", "db_summed_over_units")
    double = planting.Bug("Dense", "double", "db is doubled.", true.subject,
                          (planting.Edit(true.edits[0].where, "_sum(dz, 0)", "2 * _sum(dz, 0)"),), "G")
    assert len({bughunt._facts(bug, true.subject)[0] for bug in (true, summed, double)}) == 1
    rest = bug_called("Dense", "dx_missing"), bug_called("Dense", "dW_sign")
    monkeypatch.setattr(bughunt, "_candidates", lambda bug, rng: iter([summed, double, *rest]))
    assert bughunt._others(true, None) == (summed, *rest)


def test_the_same_room_comes_first_and_in_it_what_would_be_noticed(monkeypatch):
    true, silent = bug_called("Dense", "dW_sign"), bug_called("Dense", "slope_missing")
    mine = [bug_called("Dense", name) for name in ("dx_missing", "db_missing")]
    kin = bug_called("Heads", "dx_mean_of_heads")
    assert bughunt._facts(kin, true.subject)[0] and not bughunt._facts(silent, true.subject)[0]
    monkeypatch.setattr(bughunt, "_candidates", lambda bug, rng: iter([kin, silent, *mine]))
    assert bughunt._others(true, None) == (*mine, silent)


def test_a_room_with_one_bug_borrows_sentences_from_the_rooms_beside_it():
    asked = hunt("Reshape")
    beside = rooms("layers").index("Reshape")
    assert len(asked.choices) == 4
    assert {other.room for other in asked.others} <= set(rooms("layers")[beside - 3:beside + 4]) - {"Reshape"}


def test_without_a_room_layers_losses_penalties_and_models_are_hunted_in():
    found = bughunt._places(None)
    assert {"Dense", "Conv2d", "Bernoulli", "gaussian_kl", "VAE"} <= set(found)
    assert not {"fit", "callbacks", "Adam", "fast_conv", "Reshape"} & set(found)
    assert bughunt.room_called("conv2D") == "Conv2d" and bughunt.room_called("fit") == "fit"


@pytest.mark.parametrize(("room", "name", "hidden", "kept"), [
    ("Dense", "dW_mean_over_batch", "the batch size", "W: 2 of 2 entries FAIL|-1.666348293e-01 -4.999044879e-01"),
    ("Dense", "dW_overwritten", "+=", "a second backward adds the same gradients again: W differs by"),
    ("Conv2d", "true_convolution_consistent", "180°", "gives the values of the reference: off by"),
    ("Sigmoid", "sigmoid_overflows", "inf / inf", "f(800) ="),
    ("GaussianNoise", "noise_not_from_the_generator", "does not come from", "NONDETERMINISTIC, two equal runs"),
])
def test_the_evidence_has_the_figures_and_not_the_explanation(room, name, hidden, kept):
    asked = question(room, name)
    assert hidden in str(asked.full_report) + sentence(asked.bug)
    assert hidden not in asked.evidence and "WHY" not in asked.evidence
    assert any(part in " ".join(asked.evidence.split()) for part in kept.split("|"))
    passed = sum(line.status == "PASS" for line in asked.full_report.lines)
    assert f"and {passed} other tests passed" in asked.evidence and asked.passed.count("PASS  ") == passed


def test_of_a_right_gradient_the_evidence_says_so_and_shows_no_table():
    evidence = question("Conv2d", "true_convolution_consistent").evidence
    assert "PASS  gradients of x, W, b: every derivative agrees" in evidence and "worst entry" not in evidence
    assert "worst entry" in question("Dense", "dW_sign").evidence


@pytest.mark.parametrize(("text", "shown"), [
    ("off by 5.1e+00, 2.6e-10 allowed: y is the reference for W^T", "off by 5.1e+00, 2.6e-10 allowed"),
    ("x: 3 of 10 entries FAIL; b: 1 of 3 entries FAIL; dx has the wrong sign",
     "x: 3 of 10 entries FAIL; b: 1 of 3 entries FAIL"),
    ("raised ValueError: matmul: shapes differ", "raised ValueError: matmul: shapes differ"),
    ("W: 1 of 4 entries FAIL; not so: a second backward adds (W differs by 3: = stands where += belongs)",
     "W: 1 of 4 entries FAIL; not so: a second backward adds (W differs by 3)"),
    ("x differs by 2; work on a copy", "x differs by 2"),
])
def test_a_figure_loses_the_words_behind_it(text, shown):
    assert figure(text) == shown


def test_the_code_has_the_bug_and_is_python():
    for asked in (question("Dense", "dW_sign"), question("VAE", "mu_for_z"), question("ReLU", "relu_slope_1_at_0")):
        compile(asked.code, "shown", "exec")
        for edit in asked.bug.edits:
            assert edit.new in asked.code
    assert "dW -= x.T @ dz" in question("Dense", "dW_sign").code


def test_a_talk_shows_what_is_asked_for_and_ends_with_the_line():
    asked = question("Dense", "dW_sign", ["db_missing", "dx_missing", "dy_zeroed"])
    right, shown = talk(asked, "", "check", "help", "7", "passed", "hint", "code", " 4 ", "never asked")
    assert right and asked.answer == 4
    assert "npae has one bug now, in Dense(5, 3)" in shown and "  4  The gradient of W is subtracted." in shown
    assert "worst entry" in shown and "'7' is no answer" in shown and "wrong sign" in shown
    assert shown.endswith("- dW += x.T @ dz\n+ dW -= x.T @ dz") and "\nYes. The gradient of W" in shown
    right, shown = talk(asked, "1")
    assert not right and "No, it is 4. The gradient of W is subtracted." in shown and "wrong sign" not in shown
    for words in (["quit"], []):  # or nobody is there any more
        right, shown = talk(asked, *words)
        assert not right and "It was 4. The gradient of W is subtracted." in shown


def test_where_the_diagnosis_has_no_words_the_hint_says_so():
    silent = question("VAE", "mu_for_z")
    assert silent.hint == "The diagnosis has no words for it."


def test_nothing_is_left_planted():
    asked = hunt("Dense", 1)
    assert asked.evidence and subjects.check(asked.bug.subject, reference).ok


def test_questions_do_not_come_twice_and_are_no_more_than_there_are_bugs():
    names = [asked.bug.name for asked in take("Heads", 0, 4)]
    assert sorted(names) == sorted(bug.name for bug in zoo.bugs("Heads"))
    for number in (0, 5):
        with pytest.raises(ValueError, match=f"{number} questions were asked for, and there are bugs for 4"):
            take("Heads", 0, number)


def run(*words, said=""):
    return subprocess.run([sys.executable, "-m", "npae", "bughunt", *words], input=said, capture_output=True, text=True)


def test_the_command_works_in_a_pipe_and_its_exit_status_is_the_answer(monkeypatch, capsys):
    answer = hunt("Heads", 3).answer
    piped = run("heads", "--seed", "3", said=f"check\n{answer}\n")
    assert (piped.returncode, piped.stderr) == (0, "") and "Yes. " in piped.stdout and "seed" not in piped.stdout
    for said, status in (([f"{answer}"], 0), ([f"{answer % 4 + 1}"], 1), ([], 1)):
        answers = iter(said)
        monkeypatch.setattr("builtins.input", lambda prompt, answers=answers: _next(answers))
        assert cli.main(["bughunt", "Heads", "--seed", "3"]) == status
    capsys.readouterr()
    monkeypatch.setattr("builtins.input", lambda prompt: _next(iter(())))
    assert cli.main(["bughunt", "Heads"]) == 1
    out = capsys.readouterr().out
    again = re.search(r"the same hunt again: npae (bughunt Heads --seed \d+)\n", out)[1]
    assert cli.main(again.split()) == 1 and capsys.readouterr().out == out.split("\n", 1)[1]


def _next(answers):
    try:
        return next(answers)
    except StopIteration:
        raise EOFError from None


def test_several_questions_are_counted(monkeypatch, capsys):
    right = [asked.answer for asked in take("Heads", 3, 2)]
    for wrong, status in ((0, 0), (1, 1)):
        answers = iter([str(right[0]), str((right[1] - 1 + wrong) % 4 + 1)])
        monkeypatch.setattr("builtins.input", lambda prompt, answers=answers: next(answers))
        assert cli.main(["bughunt", "Heads", "--seed", "3", "-n", "2"]) == status
        out = capsys.readouterr().out
        assert "Question 2 of 2" in out and out.endswith(f"{2 - wrong} of 2 right\n")


@pytest.mark.parametrize(("words", "sentence"), [
    (["Cellar"], "no bugs are hunted in 'Cellar': use one of Dense, Heads, "),
    (["fast_conv"], "no bugs are hunted in 'fast_conv'"),
    (["Heads", "--seed", "-1"], "--seed must be at least 0, got -1"),
    (["Heads", "-n", "5"], "5 questions were asked for, and there are bugs for 4: use -n 1 to 4"),
    (["Heads", "--answers", "a.md"], "--answers goes with --sheet"),
    (["Heads", "--sheet", "a.md", "--answers", "x/../a.md"], "would both go to a.md"),
])
def test_what_is_wrong_is_one_sentence_and_status_2(words, sentence, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["bughunt", *words]) == 2
    out, err = capsys.readouterr()
    assert sentence in err and not list(tmp_path.iterdir())
    assert words != ["Cellar"] or out == "", "a hunt that cannot be is not offered again"


def test_a_sheet_asks_and_another_answers(tmp_path, capsys):
    paper = tmp_path / "quiz.md"
    assert cli.main(["bughunt", "Heads", "--seed", "3", "--sheet", str(paper)]) == 0
    assert capsys.readouterr().out.splitlines() == [f"4 questions: {paper}",
                                                    f"their answers: {tmp_path / 'quiz-answers.md'}"]
    asked, answers = paper.read_text(), (tmp_path / "quiz-answers.md").read_text()
    questions = list(take("Heads", 3, 4))
    for number, q in enumerate(questions, 1):
        part = asked.split(f"\n## {number}. ")[1].split("\n## ")[0]
        assert part.startswith(q.place) and q.evidence in part and part.count("☐") == 4
        letter = re.search(r"☐ (\w)\. " + re.escape(quiz.markdown(sentence(q.bug))), part)[1]
        solved = answers.split(f"\n## {number}. ")[1].split("\n## ")[0]
        assert f"**{letter}.** {quiz.markdown(sentence(q.bug))}" in solved
        assert "\n".join(planting.lines(q.bug)) in solved and q.hint in solved
        assert q.hint not in asked and planting.lines(q.bug)[-1] not in asked
    assert "seed" not in asked and f"npae bughunt Heads --seed 3 -n 4 --sheet {paper}" in answers


def test_the_answers_go_where_they_are_sent(tmp_path):
    words = ["bughunt", "Heads", "--seed", "1", "-n", "1", "--sheet", str(tmp_path / "q.md"),
             "--answers", str(tmp_path / "a.md")]
    assert cli.main(words) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"q.md", "a.md"}
