"""Formulas that are written and computed from one object, and how tables and long equations are laid out."""
import numpy as np

from npae.lab.explain.algebra import apply, arrays, letters
from npae.lab.explain.blocks import Rows, Table, Tables
from npae.lab.explain.sums import total
from npae.lab.explain.wrap import wrapped
from npae.lab.explain.writing import Env, Writer


def test_a_formula_is_written_and_computed_from_one_object():
    n, i, o = letters("n i o")
    x, W = arrays("x W")
    formula = total(i, x[n, i] * W[i, o]) - 2 * x[n, 0].squared() / 4
    env = Env({"x": np.array([[-1.0, 0.5]]), "W": np.array([[3.0], [-4.0]])}, {"i": 2}).place({"n": 0, "o": 0})
    assert formula.write(Writer()).text == "Σ_i x[n, i] W[i, o] − 2 x[n, 0]² / 4"
    assert formula.write(Writer(env)).text == "x[0, 0] W[0, 0] + x[0, 1] W[1, 0] − 2 x[0, 0]² / 4"
    figures = Writer(env, figures=True)
    assert formula.write(figures).text == "(−1)·3 + 0.5·(−4) − 2·(−1)² / 4"
    assert formula.value(env) == -5.5
    assert [n.text for n in figures.numbers] == ["−1", "3", "0.5", "−4", "2", "−1", "4"]


def test_a_sum_leaves_out_what_lies_outside_and_keeps_to_its_conditions():
    i, j, h = letters("i j h")
    (x,) = arrays("x")
    env = Env({"x": np.arange(3.0)}, {"i": 3, "j": 3}).place({"h": 2})
    window = total(i, x[i - 1])
    assert window.value(env) == 1 and window.write(Writer(env)).text == "x[0] + x[1]"
    meeting = total((i, j), x[i] * x[j], (i + j, h))
    assert meeting.write(Writer()).text == "Σ_{i, j: i + j = h} x[i] x[j]"
    assert meeting.value(env) == 0 * 2 + 1 * 1 + 2 * 0
    assert total(i, apply("max", x[i] - 1, 0)).value(env) == 1


def test_a_table_lays_numbers_where_they_belong():
    (rows,) = Table("x", np.array([[1.0, -2.5], [30.0, 4.0]]), frozenset([(1, 0)])).blocks()
    assert rows == ["x", "      1   −2.5 ", "    [30]     4 "]
    (row,) = Table("b", np.array([0.5, 2.0])).blocks()
    assert [line.split() for line in row] == [["b"], ["0.5", "2"]]
    x = np.arange(16.0).reshape(2, 2, 2, 2)
    pictures, weights = Table("x", x).blocks(), Table("dW", x).blocks()
    assert [block[0] for block in pictures] == [f"x[{n}, :, :, {c}]" for n in (0, 1) for c in (0, 1)]
    assert [line.split() for line in pictures[1]] == [["x[0,", ":,", ":,", "1]"], ["1", "3"], ["5", "7"]]
    assert [line.split() for line in weights[1]] == [["dW[:,", ":,", "0,", "1]"], ["1", "5"], ["9", "13"]]
    (marked,) = Table("x", x, frozenset([(1, 0, 1, 0)])).blocks()
    assert marked[0] == "x[1, :, :, 0]" and len(marked) == 3 and "[10]" in marked[1]
    sheets = Table("q", np.arange(12.0).reshape(2, 3, 2), frozenset([(1, 2, 0)]))._all_sheets()
    assert [[list(map(tuple, line)) for line in places] for _, places in sheets] == [
        [[(n, r, k) for k in range(2)] for r in range(3)] for n in range(2)]
    assert Table("∂V/∂W[0, 1]", x).blocks()[1][0] == "∂V[:, :, 0, 1]/∂W[0, 1]"


def test_columns_of_words_are_as_wide_as_their_longest():
    assert Rows(("a", "bb", "c"), (("ddd", "e", "f"), ("g", "hhhh", "i"))).lines() == [
        "    a    bb    c", "    ddd  e     f", "    g    hhhh  i"]


def test_tables_stand_beside_each_other_as_far_as_they_fit():
    pair = Tables((Table("x", np.array([[1.0, 2.0]])), Table("longer", np.array([[3.0], [4.0]]))))
    assert pair.lines() == ["    x            longer", "       1   2        3", "                    4"]
    assert [line.split() for line in pair.lines(20)] == [["x"], ["1", "2"], [], ["longer"], ["3"], ["4"]]
    rows = Tables(tuple(Table("x", np.full((1, 7), 1.0)) for _ in range(3)))
    for width in range(40, 101):
        assert max(map(len, rows.lines(width))) <= width


def test_a_long_equation_is_broken_before_its_signs():
    text = "dW[0, 0] = " + " + ".join(f"x[{n}, 0] dz[{n}, 0]" for n in range(9))
    lines = wrapped(text)
    assert max(map(len, lines)) <= 100 and len(lines) > 2
    assert all(line.strip().startswith("+ ") for line in lines[1:])
    assert " ".join(line.strip() for line in lines) == text
    conditions = wrapped("∂y = 1 where " + ", ".join(f"s i′ + u′ − {n} = h" for n in range(12)))
    assert all(line.endswith(",") for line in conditions[:-1])
    crammed = wrapped("L = (" + " + ".join(f"nll[{n}]" for n in range(30)) + ") / N")
    assert max(map(len, crammed)) <= 100
