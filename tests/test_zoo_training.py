"""Optimizers, training, data and compiled kernels with mistakes in them: six every day, all of the zoo on request.
What finds them is tested too: the tables of mistakes tell them apart, and nothing is found where nothing is wrong.
"""
import numba
import numpy as np
import pytest

from npae.gradcheck import Line
from npae.kernels import (
    fast,
    fast_activation,
    fast_conv_chunks,
    fast_dense,
    fast_panel,
    fast_pool,
    fast_training,
    reference,
    set_threads,
)
from npae.lab import interpreted as python
from npae.lab import kernel_jobs
from npae.lab.findings import Findings, alike, matching
from npae.lab.planting import Bug, Edit, planted
from npae.lab.subjects import callbacks, data, kernels, optimizers, resume, training
from npae.lab.textbook import ADAMW, CLIPPED, CLIPS, RULES, falling, textbook
from npae.lab.zoo import kernels as zoo_kernels
from npae.lab.zoo import optimizers as zoo_optimizers
from npae.lab.zoo import training as zoo_training
from npae.lab.zoo.trial import said

SUBJECTS = {name: subject for file in (optimizers, training, data, callbacks, resume, kernels)
            for name, subject in file.SUBJECTS.items()}
QUICK = {name: subject for name, subject in SUBJECTS.items() if not name.startswith("fast_")}
BUGS = (*zoo_optimizers.BUGS, *zoo_training.BUGS, *zoo_kernels.BUGS)
EVERYDAY = ("adam_without_bias_correction", "adamw_decay_coupled", "clip_by_value", "zero_grad_forgotten",
            "sample_inverted", "race_on_db")
PARTS = {"R": "reference", "S": "state", "M": "moments"}
SETTINGS = {"momentum": 0.9, "rho": 0.9, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "decay": 1e-2}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small arrays are not worth a second thread; the slow test of kernels asks for two itself."""
    before = numba.get_num_threads()
    set_threads(1)
    yield
    set_threads(before)


def is_found(bug):
    """Every part that has to see the bug does, and what is explained are its own words."""
    with planted(bug):
        report = SUBJECTS[bug.subject](reference)
    failed = {line.part for line in report.lines if line.status == "FAIL"}
    assert not report.ok and {PARTS[letter] for letter in bug.killed_by} <= failed, str(report)
    told = "; ".join(said(report))
    assert all(any(word in told for word in words.split("|")) for words in bug.says), told
    assert bug.says or not report.explanations, told


@pytest.mark.parametrize("bug", [bug for bug in BUGS if bug.name in EVERYDAY], ids=lambda bug: bug.name)
def test_a_bug_is_found_and_named(bug):
    is_found(bug)


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_every_bug_is_found_and_named(bug):
    is_found(bug)


@pytest.mark.parametrize("name", QUICK)
def test_nothing_is_found_where_nothing_is_wrong(name):
    report = SUBJECTS[name](reference)
    assert report.ok and not report.explanations, str(report)


@pytest.mark.slow
@pytest.mark.parametrize("name", SUBJECTS)
def test_nothing_is_found_in_the_fast_kernels(name):
    set_threads(min(2, numba.config.NUMBA_NUM_THREADS))
    report = SUBJECTS[name](fast)
    assert report.ok and not report.explanations, str(report)


def test_the_zoo_is_whole():
    assert len(BUGS) >= 100 and len({bug.name for bug in BUGS}) == len(BUGS)
    assert {bug.subject for bug in BUGS} == set(SUBJECTS), "a subject that no bug has tried"
    missing = {**zoo_optimizers.NOT_HERE, **zoo_training.NOT_HERE, **zoo_kernels.NOT_HERE}
    assert not {bug.name for bug in BUGS} & set(missing) and all(len(reason) > 20 for reason in missing.values())


# ---- the tables of mistakes


@pytest.mark.parametrize("name", RULES)
def test_mistakes_of_an_optimizer_differ_from_it_and_from_each_other(name):
    rule, mistakes = RULES[name]
    walked = {words: textbook({**rule, **lines}, rate=falling, **SETTINGS) for words, lines in mistakes.items()}
    walked["the rule itself"] = textbook(rule, rate=falling, **SETTINGS)
    for words, way in walked.items():
        assert matching(way, walked) == words


def test_mistakes_of_clipping_differ_from_it_and_from_each_other():
    settings = {"rate": lambda step: 0.01, "longest": 20.0}
    walked = {words: textbook({**CLIPPED, **lines}, **settings) for words, lines in {**CLIPS, "right": {}}.items()}
    for words, way in walked.items():
        assert matching(way, walked) == words


def test_a_mistake_that_is_in_no_table_is_found_and_not_named():
    for text in ("real(1 - beta2) * grad * grad", "m / real(1 - beta1**t)"):
        bug = Bug("Adam", "unheard_of", "", "Adam", (Edit("npae.kernels.reference_training:adam_step", text,
                                                          f"1.001 * ({text})"),), "R")
        is_found(bug)


def test_two_mistakes_at_once_are_not_taken_for_one_of_them():
    edits = tuple(edit for bug in zoo_optimizers.BUGS for edit in bug.edits
                  if bug.name in ("adam_eps_inside_the_root", "adam_v_not_corrected"))
    is_found(Bug("Adam", "both", "", "Adam", edits, "R"))


def test_the_textbook_moves_as_adamw_does_by_hand():
    """The first step of Adam is lr sign(g), whatever the gradient: m_hat = g, v_hat = g²."""
    first = textbook(ADAMW, rate=lambda step: 0.01, **{**SETTINGS, "eps": 0.0})[0]
    start, grad = optimizers.start(), optimizers.gradient(optimizers.start(), 1)
    moved = np.flatnonzero(grad)
    np.testing.assert_allclose(first[moved], (start * (1 - 1e-4) - 0.01 * np.sign(grad))[moved], rtol=1e-13)


def test_a_variant_is_named_only_if_it_is_the_only_one():
    assert matching([1.0, 2], {"a": [1, 2], "b": [1, 2.1]}) == "a"
    assert matching([1.0, 2], {"a": [1, 2], "b": [1, 2]}) == matching([1.0, 2], {"b": [1, 2.1]}) == ""
    assert alike([[1.0, 1e-9]], [[1, 1e-9]]) and not alike([[1.0, 1e-9]], [[1, 2e-9]]), "columns have their own size"
    assert alike([np.nan, 1], [np.nan, 1]) and not alike([np.nan, 1], [0, 1])


def test_a_difference_is_told_with_its_place():
    found = Findings()
    found.same("a = b", lambda: [[1.0, 2], [3, 4]], lambda: [[1, 2], [3, 5]], {})
    assert found.lines == [Line("FAIL", "a = b", "4 instead of 5 at [1, 1]", "reference")]
    assert found.report("").explanations == ()


# ---- the interpreter of kernels


def test_an_interpreted_kernel_has_the_bits_of_the_compiled_one():
    theta, grad = np.linspace(-1, 1, 37), np.linspace(2, 3, 37)
    twin = theta.copy()
    fast.sgd_step(theta, grad, 0.1)
    python.interpreted().sgd_step(twin, grad, 0.1)
    np.testing.assert_allclose(twin, theta, rtol=1e-15)


def test_an_array_of_a_task_notes_wrong_indices_and_who_wrote_where():
    def body(k, a, b):
        b[k] = a[k - 1] + a[k + 1]
        b[k:k + 2, 0] = 0

    with python.watched() as watch:
        a, b = np.zeros((4, 2)), np.ones((5, 2))
        python._launch(body, 3, (a, b))
    assert (watch.below, watch.beyond, watch.met) == (1, 0, 4) and not b[:4, 0].any()
    with python.watched() as watch, pytest.raises(IndexError):
        python._launch(body, 4, (a, b))
    assert watch.beyond == 1


def test_what_is_empty_is_full_of_nans_there():
    assert np.isnan(python.INSTEAD["np"].empty((2, 3), np.float32)).all()
    assert (python.INSTEAD["np"].empty(3, np.int8) == -128).all()


def room(file):
    """The globals of a file as the interpreter has them."""
    return python._room(f"npae.kernels.{file}", {})


def test_a_few_numbers_are_several_chunks_and_vectors_there():
    for name, small in python.CUTS.items():
        figures = [vars(module)[name] for module in (fast_conv_chunks, fast_dense, fast_panel) if name in vars(module)]
        assert figures and min(figures) > small, name
    conv, dense = room("fast_conv"), room("fast_dense")
    assert conv["widened"](5, np.float64) == 6 and conv["_Scratch"](9, np.float64, None).chunks == 4
    blocks, chunks, tallest = dense["_grid"](10, 35, 9, 4)
    assert (blocks, chunks, tallest) == (2, 4, 5) and fast_dense._grid(10, 35, 9, 4)[:2] == (1, 1)
    assert dense["_pieces"](4, 17) == 4, "a long sum has several parts"


def test_a_matrix_is_turned_there_square_by_square():
    a = np.arange(70.0).reshape(7, 10)
    b = np.full((8, 9), -1.0)
    room("fast_tile")["turn"](a, 12, 10, 5, 7, b, 10, 9)
    np.testing.assert_array_equal(b[1:8, 1:6], a[1:6, 2:9].T)
    assert (b >= 0).sum() == 35


def test_a_product_there_takes_whole_vectors_alone():
    rng = np.random.default_rng(0)
    a, b, d = rng.random((5, 3)), rng.random((3, 6)), rng.random(6)
    c = np.zeros((5, 6))
    python._product(5, 6, a, 0, 0, 3, 1, b, 0, 0, 6, c, 0, 6, 1, 3, d, 0, 0)
    np.testing.assert_allclose(c, a @ b + d)
    with pytest.raises(ValueError, match="a product of 5 columns of 8 bytes must be widened to vectors of 16"):
        python._product(5, 5, a, 0, 0, 3, 1, b, 0, 0, 6, c, 0, 6, 1, 3, d, 0, 0)
    with python.watched() as watch:
        python._product(5, 6, a, 0, 0, 3, 1, b, 0, 0, 6, np.zeros(36), 6, 6, 1, 3, np.zeros(8), -1, 0)
    assert (watch.below, watch.beyond) == (5, 0)


def test_the_polynomials_of_compiled_code_are_read_there():
    x = np.float32(0.4)
    math = room("fast_math")
    for name, right in (("exp_minus", np.exp(-0.4)), ("log1p_unit", np.log1p(0.4)), ("tanh", np.tanh(0.4))):
        got = math[name](x)
        assert got.dtype == np.float32 and abs(got - right) < 2e-7, name
    one = Edit("npae.kernels.fast_math:_typed_log1p_unit", "two = real(2)", "two = real(3)")
    with planted(Bug("", "", "", "", (one,), "")):
        assert room("fast_math")["log1p_unit"](x) > 0.35


@pytest.mark.parametrize("make", [kernel_jobs.dense, kernel_jobs.convolutions])
def test_products_cut_into_many_pieces_are_those_of_the_textbook(make):
    K = python.interpreted()
    for job in kernels._jobs(make):
        with python.watched() as watch:
            wrong = job.wrong(job.run(K, *job.arrays), job.run(reference, *job.arrays))
        assert not wrong and (watch.below, watch.beyond, watch.met) == (0, 0, 0), wrong


@pytest.mark.parametrize("module", [fast_activation, fast_pool, fast_training], ids=lambda module: module.__name__)
def test_a_file_has_changed_only_where_something_is_planted(module):
    assert not python.changed(module)
    name = next(name for name, thing in vars(module).items()
                if hasattr(thing, "py_func") and thing.__module__ == module.__name__)
    line = f"def {name}("
    with planted(Bug("", "", "", "", (Edit(f"{module.__name__}:{name}", line, line),), "")):
        assert not python.changed(module)
    bug = next(bug for bug in zoo_kernels.BUGS if bug.name == "relu_swallows_nan")
    with planted(bug):
        assert python.changed(module) == (module is fast_activation)
