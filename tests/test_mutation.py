"""The machinery of `python -m tests.mutation`: the edits that it makes, what it leaves alone, and ten mutants of a file
from one end to the other."""
import json
import os
import subprocess
import sys

import pytest
from mutation import __main__, operators
from mutation.operators import ROOT

FILE = "npae/losses.py"


def edits(source):
    """operator -> the changed source, of every mutant of a few lines."""
    found = operators._Maker("npae/x.py", source.encode()).all()
    data = source.encode()
    return [(m.operator, (data[:m.start] + m.text.encode() + data[m.end:]).decode()) for m in found]


@pytest.mark.parametrize("line, expected", [
    ("y = a + b", {"y = a - b", "y = a", "y = b"}),
    ("y = (a + b) * c", {"y = (a - b) * c", "y = (a) * c", "y = (b) * c", "y = (a + b) / c", "y = (a + b)", "y = c"}),
    ("y = 1 / x**c", {"y = 1 * x**c", "y = 1", "y = x**c", "y = 2 / x**c", "y = 0 / x**c", "y = 1 / (x * c)",
                      "y = 1 / x", "y = 1 / c"}),
    ("y = n // s", {"y = (-(-(n) // s))", "y = n", "y = s"}),
    ("y = -x", {"y = x"}),
    ("y = x @ W.T", {"y = x @ W"}),
    ("y = (a @ b).T", {"y = (a @ b)"}),
    ("y = x.sum(0)", {"y = x.mean(0)", "y = x.sum(1)"}),
    ("y = a < b", {"y = a <= b", "y = a >= b"}),
    ("y = a and not b", {"y = (a or not b)", "y = (a)", "y = (not b)", "y = a and b"}),
    ("y = np.where(c, a, b)", {"y = np.where(c, b, a)", "y = np.where(a, c, b)"}),
    ("for i in range(n): pass", {"for i in range(n - 1): pass"}),
    ("y = x[:d]", {"y = x[:]"}),
    ("y += g", {"y = g", "y -= g", "pass"}),
    ("x.grad[...] = 0", {"x.grad[...] = 1", "pass"}),
    ("y = x.copy()", {"y = x"}),
    ("y = np.exp(x)", {"y = np.expm1(x)", "y = (x)"}),
    ("y = f(a, b)", {"y = f(b, a)"}),
    ("y = a if c else b", {"y = a if not (c) else b"}),
    ("y = 0.5 * True", {"y = 0.5 / True", "y = 0.5", "y = True", "y = 1.0 * True", "y = 0.5 * False"}),
    ("y = x.mean(dtype=np.float64)", {"y = x.sum(dtype=np.float64)", "y = x.mean(dtype=np.float32)"}),
])
def test_a_line_and_its_mutants(line, expected):
    head = "def f():\n    "
    assert {source.removeprefix(head) for _, source in edits(head + line)} == expected


@pytest.mark.parametrize("source", [
    '"""1 + 1"""', "import a", "def f(a: 1 + 1) -> 2: return a", "def __repr__(self): return 1 + 1",
    "def f():\n    raise ValueError(1 + 1)", "def f():\n    return f'{1 + 1}'", "__all__ = [1]",
    "@a(1)\ndef f(): return a",
])
def test_what_is_left_alone(source):
    assert edits(source) == []


def test_every_mutant_has_an_id_of_its_own_and_is_python():
    found = operators.mutants(FILE)
    assert len({m.id for m in found}) == len(found) > 100
    for m in found[::5]:
        compile(m.source(), FILE, "exec")
        assert m.diff().count("\n-") >= 1 and m.lines[0] >= 1


def test_an_id_outlives_a_change_elsewhere_in_the_file():
    line = "def f(x):\n    return 2 * x\n"
    before, after = ([m.id for m in operators._Maker("npae/x.py", (head + line).encode()).all() if ":f:" in m.id]
                     for head in ("", "# a comment\ny = 1\n\n\n"))
    assert before == after and before[0].startswith("x.py:f:arithmetic:")


def test_there_are_the_thousand_mutants_that_are_promised():
    assert sum(len(operators.mutants(file)) for file in operators.files()) >= 1000
    fast = [m for file in operators.files(operators.FAST_FILES) for m in operators.mutants(file) if m.place == "body"]
    assert len(fast) >= 1000


PLANTED = """
import sys
sys.path.insert(0, "tests")
from mutation import operators, planting
from npae import losses, optim, penalties
from npae.layers import Dense
known = planting.functions()
for file, changed, see in (
        ("losses.py", "return pixels * 2 *", lambda: round(losses.Gaussian(0.5).constant(2) / 1.1447298858494, 9)),
        ("optim/rules.py", "momentum: float = 1.8", lambda: optim.Momentum.__init__.__defaults__),
        ("optim/schedules.py", "end: float = 1.0", lambda: optim.CosineDecay(2.0, 1)(1)),
        ("layers/dense.py", "input_ndim = 3", lambda: Dense.input_ndim),
        ("penalties.py", "RHO_ROOM = 2e-06", lambda: penalties.RHO_ROOM)):
    mutant = next(m for m in operators.mutants(f"npae/{file}") if changed in m.source())
    before = see()
    planting.plant(mutant, known)
    print(mutant.place, before, see())
"""


def test_a_mutant_is_planted_wherever_its_line_stands():
    assert run(PLANTED, program=("-c",)).splitlines() == [
        "body 1.0 4.0", "default (0.9,) (1.8,)", "class 0.0 1.0", "class 2 3", "module 1e-06 2e-06"]


def run(*words, program=("-m", "tests.mutation")):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *program, *words], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_ten_mutants_from_one_end_to_the_other(tmp_path, capsys):
    results = tmp_path / "results.jsonl"
    done, *waiting = [m.id for m in operators.mutants(FILE) if m.function == "Gaussian.constant"]
    assert len(waiting) >= 10
    results.write_text(json.dumps({"id": done, "result": "survived", "by": "", "tests": 0, "seconds": 0}) + "\n")
    run("--only", "losses.py", "--id", "Gaussian.constant", "--tests", "losses", "--results", str(results))
    first, *rows = [json.loads(line) for line in results.read_text().splitlines()]
    assert first["id"] == done and sorted(row["id"] for row in rows) == sorted(waiting)  # what is done is not run again
    assert {row["result"] for row in rows} == {"killed"} and all("test_losses.py::" in row["by"] for row in rows)
    __main__.report(operators.mutants(FILE), results)
    said = capsys.readouterr().out
    (_, total, killed, equivalent, alive, to_run), = [line.split() for line in said.splitlines() if FILE in line][:1]
    assert [int(n) for n in (killed, equivalent, alive)] == [len(rows), 0, 1]
    assert int(total) - int(to_run) == len(rows) + 1 and f"\n{done}\n@@" in said


def test_an_edit_that_changes_nothing_survives(tmp_path):
    run("--control", "--only", "losses.py", "--id", "Gaussian.constant", "--tests", "losses",
        "--results", str(tmp_path / "results.jsonl"))
    row, = [json.loads(line) for line in (tmp_path / "control.jsonl").read_text().splitlines()]
    assert row["result"] == "survived" and row["tests"] > 5
