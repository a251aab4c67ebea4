"""The bug zoo of the layers: every bug is found by the parts of the protocol that it names, and nothing without a bug.
Twelve bugs, at least one a file and a part, are planted every day; all of them under `pytest -m slow`.
"""
import ast
import inspect
from functools import cache

import numpy as np
import pytest

from npae.kernels import fast, reference
from npae.lab import moments, oracles
from npae.lab.catalogue import ALL
from npae.lab.planting import planted
from npae.lab.subjects.layers import SUBJECTS
from npae.lab.zoo import activations, conv, dense, noise, pool, shapes, tied, transposed, upsample
from npae.layers import Dropout, Flatten, GaussianNoise, MaskingNoise, MaxPool2d, Reparameterize

FILES = (dense, activations, conv, transposed, pool, upsample, tied, shapes, noise)
BUGS = [bug for file in FILES for bug in file.BUGS]
LETTERS = {"gradient": "G", "adjoint": "A", "linearity": "L", "state": "S", "reference": "R", "batch": "B",
           "moments": "M"}
EVERY_DAY = {
    ("Dense", "transposed_dW"), ("Dense", "dz_in_float32"), ("Dense", "x_kept_by_batch_size"),
    ("ReLU", "relu_slope_1_at_0"), ("Sigmoid", "sigmoid_overflows"), ("Conv2d", "true_convolution_consistent"),
    ("ConvTranspose2d", "canvas_cut_one_row_off"), ("MaxPool2d", "last_maximum_wins"),
    ("Upsample2d", "tiled_not_repeated_consistent"), ("TiedDense", "decoder_not_transposed"),
    ("Workspace", "one_buffer_for_all"), ("Dropout", "not_scaled_consistent")}


def title(bug):
    return f"{bug.room}.{bug.name}"


def found_by(report):
    """The letters of the parts that say no."""
    rows = {"G" for row in report.rows if not row.ok}
    return rows | {LETTERS[line.part] for line in report.lines if line.status == "FAIL"}


@cache
def refuses(bug):
    """The letters of the parts that say no to the bug, and the claims that do not hold with it."""
    with planted(bug):
        report = SUBJECTS[bug.subject](reference)
    assert not report.ok, f"{title(bug)} survives"
    return found_by(report), {line.claim for line in report.lines if line.status == "FAIL"}


@pytest.mark.parametrize("bug", [bug for bug in BUGS if (bug.room, bug.name) in EVERY_DAY], ids=title)
def test_twelve_bugs_are_found_by_the_parts_that_they_name_and_without_them_all_is_green(bug):
    assert SUBJECTS[bug.subject](reference).ok
    assert set(bug.killed_by) <= refuses(bug)[0]
    assert SUBJECTS[bug.subject](reference).ok, "the bug is gone again"


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS, ids=title)
def test_every_bug_is_found_by_the_parts_that_it_names(bug):
    found = refuses(bug)[0]
    assert set(bug.killed_by) <= found
    if bug.name.endswith("_consistent"):  # forward and backward wrong alike: no gradient check can see it
        assert not found & set("GAL")


@pytest.mark.slow
@pytest.mark.parametrize("kernels", [reference, fast], ids=["reference", "fast"])
@pytest.mark.parametrize("name", SUBJECTS)
def test_every_layer_is_green(name, kernels):
    report = SUBJECTS[name](kernels)
    assert report.ok, report.wrong


@pytest.mark.slow
def test_no_claim_is_idle_each_is_broken_by_some_bug():
    claims = {wording(line.claim) for check in SUBJECTS.values() for line in check(reference).lines
              if line.status == "PASS" and line.part != "adjoint"
              and "random directions" not in line.claim}  # asked only where the entries that were looked at are right
    broken = {wording(claim) for bug in BUGS for claim in refuses(bug)[1]}
    # the base class of npae's layers refuses a dy of another dtype than y, and a backward without a forward, and puts
    # every array into C order before a layer sees it (test_gradcheck_mutants has layers that these lines find wrong)
    assert claims - broken == {"float64 in, float64 out", "backward without a forward is an error",
                               "x and dy with stride 0 give the same", "x and dy with negative strides give the same"}


def wording(claim):
    """Without the batch sizes in brackets."""
    return claim.split(" (")[0]


def test_the_twelve_bugs_are_there_and_every_bug_has_its_own_name_and_fits_into_the_source():
    names = [(bug.room, bug.name) for bug in BUGS]
    assert len(set(names)) == len(names) > 200
    assert set(names) >= EVERY_DAY and len(EVERY_DAY) == 12
    for bug in BUGS:
        assert bug.did.endswith(".") and bug.subject in SUBJECTS
        assert bug.killed_by and set(bug.killed_by) <= set("GALSRBM")
        with planted(bug):
            pass


def test_every_part_of_the_protocol_and_every_layer_of_the_catalogue_has_its_bugs():
    assert set("".join(bug.killed_by for bug in BUGS)) == set("GALSRBM")
    assert {case.name for case in ALL} <= set(SUBJECTS)
    with_bugs = {case.kind for case in ALL if case.name in {bug.subject for bug in BUGS}}
    assert {case.kind for case in ALL} - with_bugs == {"Identity"}  # y = x: its bugs are those of Activation


def test_the_oracles_import_nothing_of_npae():
    tree = ast.parse(inspect.getsource(oracles))
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert modules == {"math", "decimal", "numpy"}


def test_the_oracle_of_a_tied_maximum_gives_all_to_the_first_of_them():
    x = np.array([[1.0, 3, 3], [3, 2, 3]]).reshape(1, 2, 3, 1)
    dx = oracles.max_pool2d_input_grad(x, np.array([10.0, 7]).reshape(1, 1, 2, 1), MaxPool2d(2, stride=1))
    assert dx[0, :, :, 0].tolist() == [[0, 17, 0], [0, 0, 0]]


@pytest.mark.parametrize("layer", [Dropout(0.4), MaskingNoise(0.4), GaussianNoise(0.3)], ids=repr)
def test_moments_tell_ten_per_cent_less_noise(layer):
    x = np.random.default_rng(0).standard_normal((2, 6))
    assert moments.moments(layer, x) == ""
    layer._draw = type(layer)(0.9 * layer.amount)._draw
    assert "sigma off, 5 allowed" in moments.moments(layer, x)


def test_moments_tell_samples_with_ten_per_cent_less_noise_and_samples_that_are_alike():
    layer, x = Reparameterize(2), np.random.default_rng(0).standard_normal((2, 6))
    assert moments.moments(layer, x) == ""
    layer._noise = lambda shape, dtype: 0.9 * layer.rng.standard_normal(shape)
    assert moments.moments(layer, x).startswith("the variance is")
    layer._noise = lambda shape, dtype: np.tile(layer.rng.standard_normal((2, 3)), (2, 1))
    assert moments.moments(layer, x).startswith("the product of two numbers is")


def test_a_layer_that_raises_has_a_report_too(monkeypatch):
    def raises(self, x):
        raise ValueError("no forward today")

    monkeypatch.setattr(Flatten, "_forward", raises, raising=False)
    report = SUBJECTS["Flatten()"](reference)
    assert report.wrong[0].endswith("no forward today)") and found_by(report) >= set("GRSB")
