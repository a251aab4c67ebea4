"""`npae grade` around the stages: submissions that hang, raise, print or exit, folders, tables, JSON, CSV, statuses."""
import contextlib
import csv
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from npae.cli import main
from npae.lab import grade, gradebook
from npae.lab.exercises import EXERCISES
from npae.lab.stages import FOLLOWS

DEMOS = Path(__file__).resolve().parent.parent / "demos"
DENSE = (DEMOS / "solutions" / "1_dense.py").read_text()
BACKWARD = "    def backward(self, dy):\n"
MEAN = DENSE.replace("dy.sum(axis=0)", "dy.mean(axis=0)")
CLASS = {  # as a teacher gets them
    "anna": DENSE,
    "bert": MEAN,
    "carl": DENSE.replace(BACKWARD, BACKWARD + "        print('dy is')\n        print(dy.sum(), end='')\n"),
    "dora": "import sys\nsys.exit()\n" + DENSE,
    "emil": "import os\n" + DENSE.replace(BACKWARD, BACKWARD + "        os._exit(0)\n"),
    "frieda": "answer = 1 / 0\n" + DENSE,
    "gustav": DENSE.replace("dy.sum(axis=0)", "dy.sum(axis=0"),
    "hanna": "x = 1\n",
    "ida": (DEMOS / "exercises" / "1_dense.py").read_text(),
    "jan": "import sys\n" + DENSE.replace(BACKWARD, BACKWARD + "        sys.exit('done')\n"),
    "karla/1_dense": MEAN.replace("import numpy as np", "import numpy as np\nfrom helpers import *"),
    "karla/helpers": "one = 1\n",
    "lea": "name = input()\n" + DENSE,
}


def write(folder, texts):
    for name, text in texts.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(text)
    return folder


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """(status, what was printed, JSON, rows of the CSV) of the folder."""
    folder = write(tmp_path_factory.mktemp("class"), CLASS)
    out = tmp_path_factory.mktemp("out")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        status = main(["grade", str(folder), "--json", str(out / "g.json"), "--csv", str(out / "g.csv")])
    with open(out / "g.csv", newline="", encoding="utf-8") as file:
        return status, printed.getvalue(), json.loads((out / "g.json").read_text()), list(csv.DictReader(file))


def test_a_folder_is_graded_whole_whatever_one_submission_does(graded):
    status, _, grades, _ = graded
    assert status == 1
    points = {g["student"]: g["points"] for g in grades}
    assert list(points) == sorted(CLASS)
    assert points == {**dict.fromkeys(CLASS, 0), "anna": 10, "carl": 10, "bert": 9, "karla/1_dense": 9}


@pytest.mark.parametrize(("student", "words"), [
    ("carl", "it prints ("),
    ("dora", "it cannot be imported: SystemExit (line 2): take the call that ends Python out"),
    ("emil", "it ended Python, with status 0, before everything was graded"),
    ("frieda", "it cannot be imported: ZeroDivisionError: division by zero (line 1)"),
    ("gustav", "it is not Python (line 31: '(' was never closed)"),
    ("hanna", "no exercise is recognised: it defines none of the classes Dense, "),
    ("ida", "backward of Dense is still blank: begin with the derivation at the top of the file"),
    ("lea", "it cannot be imported: EOFError: EOF when reading a line (line 1)"),
])
def test_what_stood_in_the_way_is_said_in_a_sentence(graded, student, words):
    (remark,) = next(g["remarks"] for g in graded[2] if g["student"] == student)
    assert remark.startswith(words)
    assert " ".join(remark.split()) in " ".join(graded[1].split())


def test_a_backward_that_ends_python_is_a_stage_that_fails(graded):
    jan = next(g for g in graded[2] if g["student"] == "jan")
    assert not jan["remarks"]
    assert jan["stages"][0]["hint"].startswith("It raised SystemExit: done (line 32): take the call that ends Python")


def test_the_table_has_a_row_for_each_student_and_what_to_talk_about(graded):
    head, rule, *lines = graded[1].splitlines()[1:]
    assert graded[1].startswith("1_dense\n") and set(rule) == {"-"}
    assert head.split() == ["student", "shapes", "bias", "weight", "input", "composition", "state", "total"]
    rows = {line.split()[0]: line.split()[1:] for line in lines[:len(CLASS)]}
    assert rows["anna"] == ["1/1", "1/1", "3/3", "3/3", "1/1", "1/1", "10/10"]
    assert rows["bert"] == ["1/1", "0/1", "3/3", "3/3", "1/1", "1/1", "9/10"]
    assert rows["dora"][-1] == "0/10" and rows["hanna"] == [gradebook.DASH] * 7
    assert lines[len(CLASS) + 1].split() == ["all", "right", "4", "2", "4", "4", "4", "4", "2", "of", "13"]
    talk = " ".join(graded[1][graded[1].index("What to talk about:"):].split())
    assert talk.startswith("What to talk about: 2 x Dense, bias: db is 1/4 × the numeric gradient")
    assert "(bert, karla/1_dense)" in talk and "Look again" not in talk
    assert " ".join(FOLLOWS.split()) not in talk  # jan has it five times
    assert max(map(len, graded[1].splitlines())) <= gradebook.WIDTH


def test_json_has_every_stage_with_its_hint(graded):
    bert = next(g for g in graded[2] if g["student"] == "bert")
    assert (bert["exercise"], bert["points"], bert["of"]) == ("1_dense", 9, 10) and bert["file"].endswith("bert.py")
    lost = [stage for stage in bert["stages"] if stage["points"] < stage["of"]]
    assert [(stage["class"], stage["stage"]) for stage in lost] == [("Dense", "bias")]
    looks, question = lost[0]["hint"].splitlines()
    assert looks.startswith("db is 1/4 × the numeric gradient in all 3 entries: 4 is the batch size")
    assert "is it a sum or a mean?" in question
    assert next(g for g in graded[2] if g["student"] == "hanna")["exercise"] is None


def test_csv_has_a_line_for_each_student(graded):
    rows = {row["student"]: row for row in graded[3]}
    assert list(rows) == sorted(CLASS)
    assert rows["bert"] == {"student": "bert", "exercise": "1_dense", "shapes": "1", "bias": "0", "weight": "3",
                            "input": "3", "composition": "1", "state": "1", "total": "9", "of": "10", "remarks": ""}
    assert rows["hanna"]["bias"] == "" and rows["dora"]["remarks"].startswith("it cannot be imported")


def test_a_submission_that_never_ends_is_ended_and_so_is_one_that_prints_without_end(tmp_path):
    write(tmp_path, {"asleep": "import time\ntime.sleep(1000)\n" + DENSE,
                     "loud": "while True:\n    print('again')\n" + DENSE})
    start = time.perf_counter()
    grades = {g.student: g for g in grade.grade([tmp_path], seconds=1.5)}
    assert time.perf_counter() - start < 60
    for g in grades.values():
        assert g.points == 0 and g.remarks[0].startswith("it did not end within 1.5 seconds")
    assert len(grades["asleep"].remarks) == 1


def test_what_was_right_before_a_stage_that_hangs_stays_right():
    told = [{"part": "Dense", "stage": stage, "ok": True, "hint": ""} for stage in ("shapes", "bias")]
    g = grade._as_grade("anna", Path("anna.py"), EXERCISES[0], told, ["it did not end"])
    assert (g.points, g.ok) == (2, False)
    assert [stage.hint for stage in g.stages[2:]] == ["This stage was not reached."] * 4
    assert "This stage was not reached." in gradebook.sheet(g)


def test_the_facts_of_a_process_that_was_ended_are_read_as_far_as_they_go(tmp_path):
    told = tmp_path / "told"
    assert list(grade._facts(told)) == []
    told.write_text('{"part": "Dense"}\n5\n{"part": "De')
    assert list(grade._facts(told)) == [{"part": "Dense"}]


@pytest.mark.parametrize(("printed", "lines"), [(b"", 0), (b"one", 1), (b"one\n", 1), (b"one\ntwo", 2), (b"\n\n", 2)])
def test_lines_that_are_printed_are_counted(printed, lines):
    out, into = os.pipe()
    os.write(into, printed)
    os.close(into)
    count = [0]
    grade._count_lines(os.fdopen(out, "rb"), count)
    assert count == [lines]


def test_a_submission_does_not_get_what_is_typed_at_the_terminal(tmp_path):
    write(tmp_path, {"asks": CLASS["lea"]})
    done = subprocess.run([sys.executable, "-m", "npae", "grade", str(tmp_path / "asks.py")], input="lea\n", text=True,
                          capture_output=True, cwd=DEMOS.parent)
    assert done.returncode == 1 and "EOFError" in done.stdout


def test_the_table_of_layers_without_weights_has_no_column_for_them():
    told = [{"part": kind, "stage": stage, "ok": True, "hint": ""} for kind in ("ReLU", "Sigmoid")
            for stage in ("shapes", "input", "composition", "state")]
    g = grade._as_grade("anna", Path("anna.py"), EXERCISES[1], told, [])
    assert gradebook.table([g]).splitlines()[1].split() == [
        "student", "shapes", "input", "composition", "state", "total"]


def test_a_learner_sees_every_stage_and_the_question_of_the_one_that_failed(tmp_path, capsys):
    write(tmp_path, {"mine": MEAN, "good": DENSE})
    assert main(["grade", str(tmp_path / "good.py")]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith("good.py: 1_dense, 10 of 10 points")
    assert main(["grade", str(tmp_path / "mine.py"), str(tmp_path / "good.py")]) == 1
    mine, good = capsys.readouterr().out.split("\n\n")
    assert "9 of 10 points" in mine and "    bias           0 of 1   <--\n        db is 1/4 × the numeric" in mine
    assert "Look again: b[o] stands in y[n, o] once" in mine and mine.count("<--") == 1
    assert "<--" not in good and "Look again" not in good


def test_no_submission_waits_for_numba(tmp_path):
    text = (DEMOS / "solutions" / "3_conv2d.py").read_text()
    asks = "        assert 'numba' not in __import__('sys').modules\n"
    write(tmp_path, {"conv": text.replace(BACKWARD, BACKWARD + asks)})
    assert grade.grade([tmp_path])[0].points == 10


def test_a_file_may_hold_several_exercises_and_half_of_one(tmp_path):
    two = (DEMOS / "solutions" / "2_relu_sigmoid.py").read_text()
    write(tmp_path, {"all": DENSE + two[:two.index("class Sigmoid:")]})
    dense, bends = grade.grade([tmp_path / "all.py"])
    assert (dense.title, dense.points) == ("1_dense", 10)
    assert (bends.title, bends.points, bends.remarks) == ("2_relu_sigmoid", 5, ("the class Sigmoid is missing",))
    assert bends.stage("input") == (2.5, 5) and bends.stage("bias") is None
    text = gradebook.table([dense, bends])
    assert "exercise" in text.splitlines()[0] and "5/10" in text and "Sigmoid\n" not in gradebook.sheet(bends)


@pytest.mark.parametrize(("arguments", "words"), [
    (["nowhere.py"], "npae: there is no file nowhere.py: nothing to grade"),
    (["empty"], "npae: there is no .py file in the folder empty: nothing to grade"),
    (["notebook.ipynb"], "npae: notebook.ipynb is no .py file: save a notebook as a script"),
    (["good.py", "--seconds", "0"], "npae: a submission needs more than 0 seconds, got 0"),
    (["good.py", "--seconds", "nan"], "npae: a submission needs more than 0 seconds, got nan"),
    (["good.py", "--seconds", "soon"], "npae grade: argument --seconds: invalid float value: 'soon'"),
    ([], "npae grade: the following arguments are required: FILE"),
])
def test_a_wrong_argument_is_a_sentence_and_status_2(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notebook.ipynb").write_text("{}")
    write(tmp_path, {"good": DENSE})
    try:
        status = main(["grade", *arguments])
    except SystemExit as error:
        status = error.code
    assert status == 2
    assert capsys.readouterr().err.startswith(words)


def hints_of(tmp_path, text):
    """The hints of a submission to the first exercise, stage by stage."""
    write(tmp_path, {"mine": text})
    (g,) = grade.grade([tmp_path / "mine.py"])
    return {stage.name: stage.hint for stage in g.stages}


@pytest.mark.parametrize(("wrong", "looks", "question"), [
    ("dyy.sum(axis=0)", "It raised NameError: name 'dyy' is not defined", "Where does this name come from?"),
    ("self.dy.sum(axis=0)", "It raised AttributeError: 'Dense' object has no", "Has forward kept it on self"),
    ("dy.sum(axis=0) + self.W", "It raised TypeError: unsupported operand", "Which of the two is an array"),
    ("dy.sum(axis=0) + np.ones(77)", "It raised ValueError: operands could not be", "Every gradient has the shape"),
])
def test_the_question_fits_what_was_raised(wrong, looks, question, tmp_path):
    found = hints_of(tmp_path, DENSE.replace("dy.sum(axis=0)", wrong))
    first, second = found["shapes"].splitlines()
    assert first.startswith(looks) and second.startswith(question)


def test_what_was_added_before_backward_raised_counts(tmp_path):
    """b is a mean, W is right, then it raises; and in the other order of things nothing was reached."""
    raises = MEAN.replace("return dy @ self.W.value.T", "return dy @ self.W.value")
    found = hints_of(tmp_path, raises)
    assert found["shapes"].startswith("It raised ValueError") and found["weight"] == ""
    assert found["bias"].startswith("db is 1/4 × the numeric gradient")
    assert found["input"] == found["composition"] == found["state"] == FOLLOWS
    early = hints_of(tmp_path, DENSE.replace(BACKWARD, BACKWARD + "        dy @ self.W.value\n"))
    assert early["bias"] == early["weight"] == early["input"] == FOLLOWS


def test_a_list_for_dx_is_called_one(tmp_path):
    found = hints_of(tmp_path, DENSE.replace("return dy @ self.W.value.T", "return list(dy @ self.W.value.T)"))
    assert found["shapes"].startswith("backward returned a list: return an array.")
    assert found["composition"] in ("", FOLLOWS)
