"""What the report says of a mistake: each explanation has to be the right one, and where there is none it says so."""

import json

import numpy as np
import pytest
import test_gradcheck_mutants as mutants
from test_gradcheck import SUBJECTS, Dense

from npae.gradcheck import Facts, check, check_function, check_layer
from npae.gradcheck.diagnosis.explain import explain
from npae.gradcheck.diagnosis.pair import called, show
from npae.gradcheck.diagnosis.shares import shares_of_terms

WORDS = {
    "WrongSign": "dW has the wrong sign in all 15 entries",
    "TransposedWhereSquare": "dx uses W where W^T belongs",
    "GradientTransposedWhereSquare": "dW is the transpose of the numeric gradient",
    "MeanForBias": "db is 1/4 × the numeric gradient in all 3 entries: 4 is the batch size",
    "DividedByBatchTwice": "dx is 1/4 × the numeric gradient in all 20 entries: 4 is the batch size",
    "Float32Inside": "it was computed in float32",
    "LastImageOnly": "dW counts only the last image of dy",
    "NoGradientBelow": "dx is zero in all 20 entries",
    "Overwrites": "dW, db: the gradient is overwritten",
    "Rebinds": "W, b: not in place",
    "StaleCache": "belongs to an earlier forward",
    "SharedBuffer": "shared between two instances",
    "ClearsUpstream": "backward writes into dy",
    "EditsInput": "forward writes into x",
    "NormalisesWeights": "backward writes into W",
    "AssumesMemoryOrder": "forward takes the memory order of x for that of C",
    "AssumesUpstreamMemoryOrder": "backward takes the memory order of x or dy for that of C",
    "Upcasts": "float64 comes out of float32 as dx",
    "ReturnsItsCache": "forward returns its own cache",
    "SlopeOfInput": "dx / dy is 1 - x² where 1 - y² belongs: the derivative of the activation is taken at the input x",
    "IgnoresUpstream": "dx does not depend on dy",
    "MaskOfUpstream": "the mask is taken from dy",
    "MaskWrong": "for x > 0, dx / dy is 0 where 1 belongs; for x < 0, dx / dy is 1 where 0 belongs",
    "ViewOfInput": "y is x where max(x, 0) belongs",
    "WinnerOfFirstImage": "the winner of the first image is used for all",
    "NoiseDrawnAgain": "backward draws noise again",
    "HalfMissing": "in the last 2 features, dx is 2 × the numeric gradient",
    "HalfMissingOnBothSides": "y is 2 × the reference",
    "ScaledOnBothSides": "y is 2 × the reference in all 20 entries",
}


@pytest.mark.parametrize("make, shape", [(make, shape) for make, shape, _ in mutants.MUTANTS
                                         if type(make()).__name__ in WORDS],
                         ids=[name for make, _, _ in mutants.MUTANTS if (name := type(make()).__name__) in WORDS])
def test_the_report_says_what_was_done(make, shape):
    name, base = type(make()).__name__, type(make()).__mro__[1]
    noisy = make in mutants.NEEDS_NOISE
    report = check_layer(make, shape, reference=None if noisy else mutants.REFERENCES[base],
                         rng=np.random.default_rng(0) if noisy else None)
    assert WORDS[name] in "\n".join([*report.explanations, *report.wrong])
    assert all(text in str(report).replace("\n        ", " ") for text in report.explanations)


def test_what_nothing_explains_is_not_explained():
    class Odd(Dense):
        def backward(self, dy):
            dx = super().backward(dy)
            self.W.grad *= np.linspace(0.5, 1.7, self.W.grad.size).reshape(self.W.grad.shape) ** 3
            return dx

    report = check(Odd(), np.random.default_rng(0).normal(size=(4, 5)))
    assert report.explanations == ("nothing that is known explains dW: its worst entries are above",)


def test_right_code_is_not_explained():
    assert check_layer(Dense, (4, 5)).explanations == ()
    make, shape = SUBJECTS["model"]
    assert check(make(0), np.random.default_rng(0).normal(size=shape)).explanations == ()


WANT = np.random.default_rng(0).standard_normal((3, 3, 2, 2))
KERNEL = ("kernel row", "kernel column", "in-channel", "out-channel")
ARRAYS = [
    (lambda w: -w, "dW has the wrong sign in all 36 entries"),
    (lambda w: 0 * w, "dW is zero in all 36 entries"),
    (lambda w: w * 64, "64 × the numeric gradient in all 36 entries: 64 is the batch size"),
    (lambda w: w / 64, "1/64 × the numeric gradient in all 36 entries: 64 is the batch size, as if it had been"),
    (lambda w: w * 0.35, "0.35 × the numeric gradient in all 36 entries"),
    (lambda w: w * 2, "2 × the numeric gradient in all 36 entries: a factor ½ is missing"),
    (lambda w: w * -0.5, "-½ × the numeric gradient in all 36 entries: a factor 2 is missing"),
    (lambda w: w * 0.7315, "dW is 0.7315 × the numeric gradient in all 36 entries"),
    (lambda w: w[::-1, ::-1], "with its kernel turned by 180°"),
    (lambda w: w.swapaxes(2, 3), "with in- and out-channels swapped"),
    (lambda w: w.swapaxes(0, 1), "with rows and columns swapped"),
    (lambda w: w[:, ::-1], "turned left to right"),
    (lambda w: w * (np.arange(3) < 2)[:, None, None, None], "the last kernel row of dW is missing"),
    (lambda w: w * np.array([3, 1]), "in the first out-channel, dW is 3 × the numeric gradient"),
    (lambda w: w + 0.25, "dW is off by a constant: 1/4 is added"),
    (lambda w: w.astype(np.float32).astype(float), "it was computed in float32"),
    (lambda w: w + 0.2 * np.arange(36.0).reshape(w.shape), "dW has an extra 1/5 × W"),
    (lambda w: np.clip(w, -0.5, 0.5), "dW is clipped at ½"),
    (lambda w: np.where(w == w.max(), np.nan, w), "dW is not finite in 1 of 36 entries"),
    (lambda w: w.transpose(3, 0, 1, 2).reshape(w.shape), "reshaped where a transpose belongs"),
    (lambda w: w[:1], "dW has the shape (1, 3, 2, 2), the numeric gradient (3, 3, 2, 2)"),
    (lambda w: w, ""),
    (lambda w: w**2, ""),
]


@pytest.mark.parametrize("wrong, words", ARRAYS, ids=range(len(ARRAYS)))
def test_an_array_beside_the_right_one(wrong, words):
    facts = Facts({"the batch size": 64, "lam": 0.3}, {"W": np.arange(36.0).reshape(WANT.shape)})
    said = explain("dW", wrong(WANT), WANT, facts, axes=KERNEL)
    assert (words in said) if words else said == "", said


def test_one_number_is_always_a_multiple_of_another_and_that_explains_nothing():
    assert explain("db", np.array([3.7]), np.array([1.1])) == ""
    assert "a factor ½ is missing" in explain("db", np.array([2.2]), np.array([1.1]))
    assert explain("the value", np.array(5.3), np.array(1.1)) == ""


@pytest.mark.parametrize("c, text", [(3, "3"), (1 / 3, "1/3"), (0.5, "½"), (-0.5, "-½"), (1.5, "1.5"), (0.01, "0.01"),
                                     (1 / 784, "1/784"), (2 / 3, "2/3"), (0.731059, "0.731059"), (-4, "-4")])
def test_factors_are_written_as_people_write_them(c, text):
    assert show(c) == text


def test_a_factor_that_two_facts_make_together_is_named_after_both():
    said = called(1 / 12, Facts({"the batch size": 3, "the number of units": 4}))
    assert "12 is the batch size times the number of units" in said


def test_gradients_that_have_changed_places_are_told():
    def f(a):
        mu, logvar = a["mu"], a["logvar"]
        return float((mu**2).sum() + (logvar**3).sum()), {"mu": 3 * logvar**2, "logvar": 2 * mu}

    arrays = {"mu": np.array([[1.0, 2.0, 0.5]]), "logvar": np.array([[0.3, -0.4, 0.7]])}
    assert check_function(f, arrays).explanations == ("the gradients of mu and logvar are swapped",)


def test_a_formula_is_told_beside_the_one_that_belongs():
    def kl(a):
        t = a["logvar"]
        return float(np.sum(np.exp(t) - 1 - t) / 2 / 5), {"logvar": np.exp(t / 2) / 5}

    logvar = np.random.default_rng(0).standard_normal((5, 3))
    (said,) = check_function(kl, {"logvar": logvar}, facts=Facts({"the batch size": 5})).explanations
    assert said == "dlogvar is exp(logvar/2) where ½ (exp(logvar) - 1) belongs, both divided by the batch size"


def test_arrays_and_their_gradients_have_the_same_names():
    with pytest.raises(ValueError, match=r"f has the arrays \['a'\], but gives gradients of \['b'\]: one for each"):
        check_function(lambda a: (0.0, {"b": a["a"]}), {"a": np.ones(2)})


@pytest.mark.parametrize("method, worst", [("five-point", 1e-8), ("central", 1e-6), ("forward", 1e-4),
                                           ("complex", 1e-13)])
def test_every_estimate_verifies_a_right_function_and_refutes_a_wrong_one(method, worst):
    theta = {"a": np.array([0.3, -1.2, 2.0]), "b": np.array([[0.5, 0.1, -0.7]])}

    def f(arrays, by=1.0):
        a, b = arrays["a"], arrays["b"]
        return (np.sum(np.exp(a)) + np.sum(b * b * a)), {"a": np.exp(a) + (b * b)[0], "b": by * 2 * b * a}

    report = check_function(f, theta, method=method)
    assert report.ok, report.wrong
    assert max(row.worst_relative for row in report.rows) < worst
    wrong = check_function(lambda arrays: f(arrays, 0.5), theta, method=method)
    assert wrong.wrong == ["b: 3 of 3 entries FAIL"]
    assert "db is ½ × the numeric gradient" in wrong.explanations[0]


def test_an_unknown_estimate_is_refused_with_those_that_there_are():
    with pytest.raises(ValueError, match="no estimate is called 'simpson': use one of richardson, five-point"):
        check(Dense(), np.ones((2, 5)), method="simpson")


def test_a_report_goes_into_json_and_markdown():
    report = check_layer(mutants.WrongSign, (4, 5))
    found = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert found["ok"] is False
    assert found["explanations"] == ["dW has the wrong sign in all 15 entries"]
    assert [row["name"] for row in found["rows"]] == ["x", "W", "b"]
    assert found["rows"][1]["FAIL"] == 15
    assert {"adjoint", "linearity", "state", "batch"} <= {line["part"] for line in found["lines"]}
    text = report.to_markdown()
    assert "| W | (5, 3) | 15 of 15 |" in text
    assert "- **WHY** dW has the wrong sign in all 15 entries" in text
    assert "\\|a-r\\|/tol" in text  # a bar would end the cell


def test_a_mistake_in_an_entry_that_was_not_looked_at_is_found_along_directions():
    class OneZero(Dense):
        def backward(self, dy):
            dx = super().backward(dy)
            self.W.grad[17, 23] = 0
            return dx

    report = check(OneZero(40, 30), np.random.default_rng(0).normal(size=(3, 40)), entries=5, seed=1)
    assert (17, 23) not in [entry.index for entry in report.row("W").entries]
    (wrong,) = report.wrong
    assert "all 1,200 entries of W along 3 random directions" in wrong
    assert "wrong are [17, 23]" in wrong


def test_code_that_breaks_under_the_diagnosis_has_a_report_all_the_same():
    class Touchy(Dense):
        """It takes no dy with a single number in it."""

        def backward(self, dy):
            if np.count_nonzero(dy) == 1:
                raise RuntimeError("too little")
            super().backward(dy)
            self.b.grad *= 1.7
            return dy @ self.W.value.T * np.linspace(1, 2, 5)

    report = check(Touchy(), np.random.default_rng(0).normal(size=(4, 5)))
    assert not report.ok
    assert report.explanations == ("no explanation was found: what was tried for one raised RuntimeError: too little",)


@pytest.mark.parametrize("times, words", [(0, "is missing"), (2, "is counted twice (2 × what it should be)"),
                                          (-1, "has the wrong sign"), (0.25, "is 1/4 × what it should be"), (1, "")])
def test_a_term_of_a_loss_is_told_by_how_often_its_gradient_is_there(times, words):
    recon, kl = np.random.default_rng(0).standard_normal((2, 12))
    beta = 0.3
    told = shares_of_terms(["recon", "kl"], recon + beta * kl, np.array([recon, kl]), recon + times * beta * kl)
    assert told == ({"kl": words} if words else {})
    assert shares_of_terms(["recon", "kl"], recon + kl, np.array([recon, kl]), recon**2) == {}


@pytest.mark.parametrize("times, words", [(0, "is missing"), (2, "is counted twice"), (-1, "has the wrong sign")])
def test_a_place_of_a_tied_weight_is_told_by_its_layer(times, words):
    from npae.kernels import reference
    from npae.layers import Dense as NpaesDense
    from npae.layers import Sequential, TiedDense

    first = NpaesDense(4, 3, activation="tanh", rng=np.random.default_rng(0), kernels=reference)

    class Odd(TiedDense):
        def _gradients(self, x, y, dy, dx):
            before = self.W.grad.copy()
            super()._gradients(x, y, dy, dx)
            self.W.grad[...] = before + times * (self.W.grad - before)

    report = check(Sequential([first, Odd(first)]), np.random.default_rng(1).standard_normal((3, 4)))
    (said,) = report.explanations
    assert f"the contribution of 1 {words}" in said
