"""The exercises and their solutions: each solution gets full marks, each exercise none, and mistakes that learners make
lose the stages that they should, with a hint that leads to them."""
import ast
import json
from pathlib import Path

import numpy as np
import pytest

from npae.lab import hints, stages
from npae.lab.exercises import EXERCISES, STAGES, recognise, spread

DEMOS = Path(__file__).resolve().parent.parent / "demos"
STEMS = [exercise.stem for exercise in EXERCISES]
GRADIENTS = {"bias", "weight", "input"}


def solution(stem):
    return (DEMOS / "solutions" / f"{stem}.py").read_text()


@pytest.fixture
def graded(tmp_path, monkeypatch):
    """(lost, hints, remarks) of a text as a submission, in this process; lost and hints by (class, stage)."""
    def graded(stem, text):
        monkeypatch.syspath_prepend(tmp_path)  # what is added to the path meanwhile goes again
        file, told = tmp_path / f"{stem}.py", tmp_path / "told.jsonl"
        file.write_text(text)
        stages.main([str(file), str(told), stem.split("_")[0]])
        facts = [json.loads(line) for line in told.read_text().splitlines()]
        assert facts.pop() == {"end": True}
        hints = {(fact["part"], fact["stage"]): fact["hint"] for fact in facts if "stage" in fact}
        assert all(fact["ok"] == (fact["hint"] == "") for fact in facts if "stage" in fact)
        return {key for key, hint in hints.items() if hint}, hints, [f["remark"] for f in facts if "remark" in f]

    return graded


def test_the_folders_hold_the_nine_exercises_and_their_solutions():
    for folder in ("exercises", "solutions"):
        assert sorted(path.stem for path in (DEMOS / folder).glob("*.py")) == STEMS


@pytest.mark.parametrize("stem", STEMS)
def test_a_solution_gets_full_marks_in_every_stage(stem, graded):
    lost, hints, remarks = graded(stem, solution(stem))
    exercise = EXERCISES[STEMS.index(stem)]
    assert not lost and not remarks
    assert list(hints) == [(part.kind, stage) for part in exercise.parts for stage in part.points]
    assert sum(sum(exercise.points(part).values()) for part in exercise.parts) == 10


@pytest.mark.parametrize("stem", STEMS)
def test_an_untouched_exercise_gets_nothing_and_the_place_to_begin(stem, graded):
    exercise = EXERCISES[STEMS.index(stem)]
    _, hints, remarks = graded(stem, (DEMOS / "exercises" / f"{stem}.py").read_text())
    assert not hints and len(remarks) == len(exercise.parts)
    for part, remark in zip(exercise.parts, remarks, strict=True):
        assert f"backward of {part.kind} is still blank: begin with the derivation" in remark


def test_a_backward_that_does_nothing_is_blank_too(graded):
    text = solution("1_dense")
    _, hints, remarks = graded("1_dense", text[:text.index("        self.b.grad +=")] + "        pass\n")
    assert not hints and remarks[0].startswith("backward of Dense is still blank")


def functions(text):
    """Name -> source of every function; a class's are called Class.name."""
    tree = ast.parse(text)
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    named = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    named |= {f"{c.name}.{node.name}": node for c in classes for node in c.body if isinstance(node, ast.FunctionDef)}
    return {name: ast.unparse(node) for name, node in named.items()}


@pytest.mark.parametrize("stem", STEMS)
def test_a_solution_differs_from_its_exercise_in_backward_alone(stem):
    text = (DEMOS / "exercises" / f"{stem}.py").read_text()
    given, solved = functions(text), functions(solution(stem))
    assert {name for name in given if given[name] != solved[name]} == {
        f"{part.kind}.backward" for part in EXERCISES[STEMS.index(stem)].parts}
    assert list(given) == list(solved)


@pytest.mark.parametrize("stem", STEMS)
def test_an_exercise_opens_with_its_task_on_paper_and_ends_with_how_to_check(stem):
    text = (DEMOS / "exercises" / f"{stem}.py").read_text()
    assert text.startswith(f"# %% [markdown]\n# # Exercise {stem[0]}: ")
    opening, ending = text[:text.index("import numpy")], text[text.index("# ## Check it"):]
    assert "# ## On paper" in opening and "Begin with" in opening and "# 1. " in opening
    assert "# ## Before you write" in opening and opening.count("?") >= 6 and "∂L/∂" in opening
    assert f"`npae grade {stem}.py`" in ending and text.count("# %%") >= 4
    assert all(f"raise NotImplementedError(\"backward of {part.kind}: " in text
               for part in EXERCISES[STEMS.index(stem)].parts)


@pytest.mark.parametrize("stem", STEMS)
def test_the_check_at_the_end_of_an_exercise_passes_with_the_solution(stem, capsys):
    """As a learner runs it, the file itself being __main__."""
    text = (DEMOS / "exercises" / f"{stem}.py").read_text()
    check = text[text.index("if __name__ == "):]
    exec(compile(solution(stem) + "\n\n" + check, stem, "exec"), {"__name__": "__main__"})
    said = capsys.readouterr().out
    assert said.count("\nOK: ") == len(EXERCISES[STEMS.index(stem)].parts) and "WRONG" not in said


# (exercise, the line of its solution, what the learner wrote, the stages that are lost, words of the first hint); of an
# exercise with two classes the class stands before the stage
WHOLE = "shapes bias weight input composition state"
MISTAKES = [
    ("1_dense", "dy.sum(axis=0)", "dy.mean(axis=0)", "bias", "is it a sum or a mean"),
    ("1_dense", "dy.sum(axis=0)", "dy.sum()", "bias", "over which axis is dy summed"),
    ("1_dense", "+= self.x.T @ dy", "-= self.x.T @ dy", "weight", "dW has the wrong sign in all 15 entries"),
    ("1_dense", "self.x.T @ dy", "self.x.T @ dy / len(dy)", "weight", "n is summed over"),
    ("1_dense", "dy.sum(axis=0)", "dy.sum(axis=1)", WHOLE, "It raised ValueError"),
    ("1_dense", "dy @ self.W.value.T", "dy @ self.W.value", "shapes input composition state", "(line 33)"),
    ("1_dense", "dy @ self.W.value.T", "-dy @ self.W.value.T", "input composition", "dx has the wrong sign"),
    ("1_dense", "return dy @ self.W.value.T", "pass", "shapes input composition state", "returned None: return dx"),
    ("1_dense", "self.W.grad += self", "self.W.grad = self", "state", "backward adds with +="),
    ("1_dense", "self.b.grad += dy", "self.b.grad[...] = dy", "state", "second backward adds the same gradients again"),
    ("1_dense", "        self.x = x", "        Dense.x = x", "composition state", "kept in the class"),
    ("1_dense", "        self.x = x", "        self.x = x = x * 1.0", "", ""),
    ("1_dense", "self.b.grad += dy.sum(axis=0)", "self.b.grad = dy.sum(axis=0, keepdims=True)", "shapes bias state",
     "db has the shape (1, 3) for N = 4, (3,) belongs there"),
    ("1_dense", "return dy @ self.W.value.T", "return np.zeros_like(self.x)", "input composition",
     "dx is zero in all 20 entries, the numeric gradient is not"),
    ("2_relu_sigmoid", "dy * (self.x > 0)", "dy * (dy > 0)", "ReLU.input ReLU.composition", "From which array"),
    ("2_relu_sigmoid", "dy * (self.x > 0)", "(self.x > 0).astype(dy.dtype)", "ReLU.input ReLU.composition",
     "does dy come through"),
    ("2_relu_sigmoid", "return dy * (self.x > 0)", "dy[self.x <= 0] = 0; return dy", "ReLU.composition ReLU.state",
     "written into dy"),
    ("2_relu_sigmoid", "dy * self.y * (1 - self.y)", "dy * self.y", "Sigmoid.input Sigmoid.composition",
     "is what stands in it y, or x"),
    ("2_relu_sigmoid", "dy * self.y * (1 - self.y)", "self.y * (1 - self.y)", "Sigmoid.input Sigmoid.composition",
     "multiplied by dy"),
    ("3_conv2d", "dz.sum(axis=0)", "dy[0].sum(axis=(0, 1))", "bias", "dy has four axes"),
    ("3_conv2d", "self.cols.reshape(len(dz), -1).T @ dz", "self.cols.reshape(len(dz), -1).T @ dz / len(dy)", "weight",
     "do the rows of cols"),
    ("3_conv2d", "dX[met] += dcols", "dX[met] = dcols", "input composition", "sum of all its windows (+=)"),
    ("3_conv2d", "dcols[:, :, :, u, v]", "dcols[:, :, :, -1 - u, -1 - v]", "input composition", "at its own place"),
    ("3_conv2d", "return dX[:, p:p + height, p:p + width]", "return dX", "shapes input composition",
     "dx has the shape (2, 8, 7, 2)"),
    ("3_conv2d", "return dX[:, p:p + height, p:p + width]", "return dX[:, :height, :width]", "input composition",
     "border cut off"),
    ("4_max_pool", "dx[met] += dy", "dx[met] = dy", "input composition", "wins twice"),
    ("4_max_pool", "dy * (self.winner == w)", "dy / 6", "input composition", "Only the winner"),
    ("4_max_pool", "self.winner == w", "self.winner[:1] == w", "input composition", "in each picture and channel"),
    ("4_max_pool", "self.winner == w", "self.winner[..., :1] == w", "input composition", "in each picture and channel"),
    ("5_upsampling", ".sum(axis=(2, 4))", ".mean(axis=(2, 4))", "UpsampleNearest.input UpsampleNearest.composition",
     "the mean, or the sum"),
    ("5_upsampling", "height, self.factor, width, self.factor, C).sum(axis=(2, 4))",
     "self.factor, height, self.factor, width, C).sum(axis=(1, 3))",
     "UpsampleNearest.input UpsampleNearest.composition", "neighbours"),
    ("5_upsampling", 'np.einsum("ia,je,nijc->naec", self.A, self.B, dy)',
     'np.einsum("ia,je,nijc->naec", self.A, self.B, dy) / 4', "UpsampleBilinear.input UpsampleBilinear.composition",
     "other index summed over"),
    ("5_upsampling", '"ia,je,nijc->naec", self.A', '"ia,je,nijc->naec", self.A[::-1]',
     "UpsampleBilinear.input UpsampleBilinear.composition", "A at the rows"),
    ("6_conv_transpose2d", "dy.sum(axis=(0, 1, 2))", "dy.mean(axis=(0, 1, 2))", "bias", "four axes of dy"),
    ("6_conv_transpose2d", "dx += dY[met]", "dx = dY[met]", "input composition", "does each tap add (+=)"),
    ("6_conv_transpose2d", "dY[met] @ self.W.value[u, v]", "dY[met] @ self.W.value[-1 - u, -1 - v]",
     "input composition", "is W unturned"),
    ("6_conv_transpose2d", "np.tensordot(dY[met], self.x,", "np.tensordot(self.x, dY[met],",
     "shapes weight input composition state", "It raised ValueError"),
    ("6_conv_transpose2d", "self.W.grad[u, v] +=", "self.W.grad[v % 3, u] +=", "weight", "(O, C) is left"),
    ("7_reparameterize", "self.eps * self.sigma / 2", "self.eps * self.sigma",
     "Reparameterize.input Reparameterize.composition", "comes out of the exponent"),
    ("7_reparameterize", "dz * self.eps * self.sigma / 2", "dz * self.sigma / 2",
     "Reparameterize.input Reparameterize.composition", "the eps of forward"),
    ("7_reparameterize", "[dz, dz * self.eps * self.sigma / 2]", "[dz * self.eps * self.sigma / 2, dz]",
     "Reparameterize.input Reparameterize.composition", "in this order"),
    ("7_reparameterize", "dz * self.eps", "dz * self.rng.standard_normal(dz.shape).astype(dz.dtype)",
     "Reparameterize.input Reparameterize.composition Reparameterize.state", "the eps of forward"),
    ("7_reparameterize", "np.expm1(self.logvar) / 2", "np.expm1(self.logvar)",
     "GaussianKL.input GaussianKL.composition", "is the ½ right"),
    ("7_reparameterize", "np.expm1(self.logvar) / 2", "np.exp(self.logvar) / 2",
     "GaussianKL.input GaussianKL.composition", "Derive ½"),
    ("7_reparameterize", "dkl[:, None] * ", "", "GaussianKL.input GaussianKL.composition", "its own dkl[n]"),
    ("8_tied_weights", "self.x.T @ dz + dy.T @ self.h", "self.x.T @ dz", "weight", "are both contributions there"),
    ("8_tied_weights", "self.x.T @ dz + dy.T @ self.h", "dy.T @ self.h", "weight", "W stands in y twice"),
    ("8_tied_weights", "self.x.T @ dz + dy.T @ self.h", "(self.x.T @ dz + dy.T @ self.h) / 2", "weight", "once each"),
    ("8_tied_weights", " * self.h * (1 - self.h)", "", "bias weight input composition", "gone through the sigmoid"),
    ("8_tied_weights", "dy.T @ self.h", "self.h.T @ dy", "shapes weight input composition state", "raised ValueError"),
    ("8_tied_weights", "self.c.grad += dy.sum(axis=0)", "pass", "bias", "dc is a sum of dy"),
    ("9_contractive", "self.x.T @ dz + 2 * self.W.value * (djac @ self.s**2)", "self.x.T @ dz", "weight",
     "are both contributions there"),
    ("9_contractive", "self.x.T @ dz + 2", "2", "weight", "by way of h"),
    ("9_contractive", "+ 2 * self.W.value", "+ self.W.value", "weight", "the 2 of W²"),
    ("9_contractive", "djac[:, None] * 2", "2", "bias weight input composition", "its own djac[n]"),
    ("9_contractive", "self.s**2 * self.w * (1", "self.s * self.w * (1", "bias weight input composition",
     "both derivatives of the sigmoid"),
    ("9_contractive", "djac[:, None] * 2", "djac * 2", WHOLE, "It raised ValueError"),
]


@pytest.mark.parametrize(("stem", "old", "new", "stages_lost", "words"), MISTAKES,
                         ids=[f"{stem}-{new or 'without ' + old}" for stem, old, new, _, _ in MISTAKES])
def test_a_mistake_loses_its_stages_and_the_hint_leads_to_it(stem, old, new, stages_lost, words, graded):
    text = solution(stem)
    assert text.count(old) == 1
    lost, hints, remarks = graded(stem, text.replace(old, new))
    only = EXERCISES[STEMS.index(stem)].parts[0].kind
    assert lost == {(kind or only, stage) for kind, _, stage in (name.rpartition(".") for name in stages_lost.split())}
    assert not remarks
    first = next((hint for hint in hints.values() if hint), "")
    assert words in first
    follows = {stage for (_, stage), hint in hints.items() if hint == stages.FOLLOWS}
    if "shapes" in stages_lost:
        assert follows == {stage for _, stage in lost} - {"shapes"}
    else:
        assert follows == ({"composition"} if {"input", "composition"} <= {stage for _, stage in lost} else set())


def test_there_are_at_least_three_mistakes_for_each_exercise():
    assert min(sum(mistake[0] == stem and bool(mistake[3]) for mistake in MISTAKES) for stem in STEMS) >= 3


@pytest.mark.parametrize(("stem", "old", "new", "words"), [
    ("1_dense", "return x @ self.W.value + self.b.value", "return x @ self.W.value", "gives other values"),
    ("2_relu_sigmoid", "return np.maximum(x, 0)", "return np.maximum(x, 0.1 * x)", "forward of ReLU gives"),
    ("3_conv2d", "cols[:, :, :, u, v] = X[met]", "cols[:, :, :, -1 - u, v] = X[met]", "forward of Conv2d gives"),
    ("4_max_pool", "return windows.max(axis=0)", "return windows.mean(axis=0)", "forward of MaxPool2d gives"),
    ("5_upsampling", "(np.arange(factor * size) + 0.5) / factor - 0.5", "np.arange(factor * size) / factor",
     "forward of UpsampleBilinear gives"),
    ("6_conv_transpose2d", "Y[met] += x", "Y[met] = x", "forward of ConvTranspose2d gives"),
    ("7_reparameterize", "np.exp(logvar / 2)", "np.exp(logvar)", "forward of Reparameterize gives"),
    ("8_tied_weights", "return self.h @ self.W.value.T + self.c.value", "return self.h @ self.W.value.T",
     "forward of TiedPair gives"),
    ("9_contractive", "return self.s**2 @ self.w", "return self.s @ self.w", "forward of ContractivePenalty gives"),
    ("1_dense", "size=(in_features, out_features)", "size=(out_features, in_features)", "take them back"),
    ("1_dense", "class Dense:", "class Dense(__import__('npae.layers').layers.Dense):", "is to be written by hand"),
    ("1_dense", "out_features: int, rng", "out_features: int, generator, rng", "Dense is not as it was given"),
    ("2_relu_sigmoid", "class Sigmoid:", "class Logistic:", "the class Sigmoid is missing"),
])
def test_what_was_given_has_to_stay_as_it_was(stem, old, new, words, graded):
    text = solution(stem)
    assert text.count(old) == 1
    _, hints, remarks = graded(stem, text.replace(old, new))
    parts = EXERCISES[STEMS.index(stem)].parts
    assert len(remarks) == 1 and words in remarks[0]
    assert len({kind for kind, _ in hints}) == len(parts) - 1  # the other class of the file is graded all the same


def test_gradients_count_singly_while_the_rest_is_still_to_be_written(graded):
    text = solution("1_dense").replace("self.W.grad += self.x.T @ dy", "raise NotImplementedError('dW, dx')")
    lost, hints, remarks = graded("1_dense", text)
    assert lost == {("Dense", stage) for stage in STAGES if stage != "bias"} and not remarks
    assert "NotImplementedError: dW, dx (line 32)" in hints["Dense", "shapes"]


def test_zeros_are_no_state_that_could_be_kept(graded):
    text = solution("1_dense")
    body = text[text.index("        self.b.grad +="):]
    lost, hints, _ = graded("1_dense", text.replace(body, "        return np.zeros_like(self.x)\n"))
    assert lost == {("Dense", stage) for stage in STAGES if stage != "shapes"}
    assert hints["Dense", "state"].startswith("This counts as soon as one gradient is not zero.")


def test_every_stage_has_its_question_and_no_hint_gives_a_line_of_a_solution_away():
    for exercise in EXERCISES:
        code = [line.strip() for line in solution(exercise.stem).splitlines() if "self." in line]
        for part in exercise.parts:
            assert set(part.look) == set(part.points)
            assert all(len(text) > 20 for text in part.look.values())
            assert not any(line in text for text in part.look.values() for line in code)
    assert set(hints.OWN) == {part.kind for exercise in EXERCISES for part in exercise.parts}


def test_an_exercise_is_recognised_by_its_classes_or_else_by_the_name_of_the_file():
    def stems(*args):
        return [exercise.stem for exercise in recognise(*args)]

    assert stems(["Dense"], "anna") == ["1_dense"] and stems(["ReLU", "Helper"], "x") == ["2_relu_sigmoid"]
    assert stems(["Dense", "Conv2d"], "all_in_one") == ["1_dense", "3_conv2d"]
    assert stems(["MyPool"], "anna_max_pool") == ["4_max_pool"] and stems([], "6_conv_transpose2d") == [
        "6_conv_transpose2d"]
    assert stems(["Mine"], "homework") == [] and stems(["Dense"], "8_tied_weights") == ["1_dense"]


def test_spread_numbers_keep_away_from_each_other_and_from_zero():
    x = spread(np.random.default_rng(0), (3, 7, 4))
    assert x.shape == (3, 7, 4) and abs(x).min() > 0.01 and (x < 0).any() and (x > 0).any()
    assert np.diff(np.sort(x, axis=None)).min() > 0.02
