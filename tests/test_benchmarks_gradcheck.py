"""The comparison of gradient checkers hands every tool the same two NumPy functions, and each judges as its rule says.
"""
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from npae import gradcheck
from npae.lab.planting import planted
from npae.lab.zoo import bugs

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
NOBODY = set()
EVERYBODY = {"npae, gradient", "npae, fast", "student, N = 1, ones", "student, npae's points", "HIPS' rule"}
SEEN_BY = {  # six bugs, and which of the tools that need no PyTorch notice them, beside npae's whole protocol
    ("Dense", "dW_sign", "Dense(5, 3)"): EVERYBODY,
    ("Dense", "dx_divided_by_batch", "Dense(1, 2)"): EVERYBODY - {"student, N = 1, ones"},
    ("Dense", "dz_in_float32", "Dense(5, 3)"): {"npae, gradient", "npae, fast"},
    ("Dense", "x_of_the_first_batch", "Dense(5, 3)"): NOBODY,
    ("Reparameterize", "variance_for_sigma_consistent", "reparameterize"): NOBODY,
    ("gaussian_kl", "half_missing_backward", "gaussian_kl"): EVERYBODY,
}
KINDS = ["gradient", "gradient", "gradient", "state", "values", "gradient"]


@pytest.fixture
def tools(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import gradcheck_tools

    return gradcheck_tools


def the_bug(room, name, subject):
    return next(bug for bug in bugs(room) if (bug.name, bug.subject) == (name, subject))


def without_torch(tools, found):
    return {tool for tool, seen in found.items() if seen and not tool.startswith("torch") and tool != tools.FULL}


@pytest.mark.parametrize("key", SEEN_BY, ids="-".join)
def test_each_tool_sees_what_it_can(tools, key):
    found = tools.caught(the_bug(*key))
    assert found[tools.FULL]
    assert without_torch(tools, found) == SEEN_BY[key]


def test_bugs_are_counted_by_what_a_gradient_check_can_know(tools):
    assert [tools.kind(the_bug(*key)) for key in SEEN_BY] == KINDS
    assert all(tools.comparable(the_bug(*key)) for key in SEEN_BY)
    hooks = [bug for bug in bugs("ReLU") if bug.name.startswith("relu_branch")]
    assert hooks and not any(map(tools.comparable, hooks)), "no forward or backward is wrong there"
    assert tools.comparable(the_bug("LeakyReLU", "leaky_alpha_fixed_consistent", "LeakyReLU(0.3)")), "wrong beside them"
    assert not any(tools.comparable(bug) for bug in bugs("Adam"))


@pytest.mark.parametrize("name", ["Dense(3, 3)", "Dropout(0.4)", "MaxPool2d((3, 2), stride=(1, 2))", "sparsity_kl"])
def test_nobody_cries_at_sound_code(tools, name):
    assert not any(tools.alarms(name).values())


def test_the_findings_are_wrong_where_they_say(tools):
    """In one entry, and nowhere without it; the sign in all."""
    import gradcheck_findings as findings

    for make, tool in (findings.zeroed_of_square, "npae, fast"), (findings.zeroed_of_tall, "HIPS' rule"):
        (wrong, arrays), (sound, _) = make(7), make(None)
        dy = np.ones(np.shape(sound.forward(arrays)))
        for name, right in sound.backward(arrays, dy).items():
            assert np.count_nonzero(right != wrong.backward(arrays, dy)[name]) == 1
        assert tools.passes(tool, lambda pair=sound: pair, [arrays])
        assert not tools.passes(tool, lambda pair=wrong: pair, [arrays])
    assert gradcheck.check_layer(lambda: findings.Jacobian(None), (2, 30)).ok
    assert not gradcheck.check_layer(lambda: findings.Jacobian(7), (2, 30)).ok
    with_sign = findings.wrong_sign()
    for tool in ("npae, gradient", "npae, fast", "student, npae's points"):
        assert not tools.passes(tool, lambda: with_sign[0], [with_sign[1]]), tool
    gradient = findings.tall_gradient()
    sizes = np.abs(gradient.ravel()[list(findings.spread(gradient, 5))])
    assert np.all(np.diff(sizes) > 0) and sizes[0] >= 1e-3 * np.sqrt(np.mean(gradient**2)) and sizes[-1] == sizes.max()


def test_a_tool_that_raises_has_noticed(tools):
    def refuse(arrays):
        raise ValueError("no")

    pair = tools.Pair(refuse, refuse, lambda arrays, fast: refuse(arrays))
    assert not any(tools.passes(tool, lambda: pair, [{"x": np.ones(2)}]) for tool in tools.TOOLS)


def test_the_table_counts(tools):
    zoo = {name: ("gradient", dict.fromkeys((tools.FULL, *tools.TOOLS), name == "a")) for name in "ab"}
    rows = tools.counts(zoo, {"s": dict.fromkeys((tools.FULL, *tools.TOOLS), False)})
    assert {score for tool in tools.TOOLS for score in [rows[tools.KINDS["gradient"]][tool]]} == {(1, 2)}
    lines = tools.table("caught", rows, True).splitlines()
    assert len(lines) == 2 + len(tools.KINDS) + 1
    assert "1/2" in lines[2] and "0/0" in lines[3] and "0/1" in lines[-1]


def test_without_pytorch_a_sentence_says_so(tmp_path):
    """Absent for this one process, whatever is installed here."""
    script = str(BENCHMARKS / "gradcheck_tools.py")
    code = f"""import runpy, sys
class Without:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise ImportError(name)
sys.meta_path.insert(0, Without())
sys.path.insert(0, {str(BENCHMARKS)!r})
runpy.run_path({script!r}, run_name="__main__")"""
    done = subprocess.run([sys.executable, "-c", code, "--only", "weight_decay", "--json", str(tmp_path / "found.json"),
                           "--markdown", str(tmp_path / "found.md")], capture_output=True, text=True, check=True)
    assert "PyTorch is not installed" in done.stdout
    found = json.loads((tmp_path / "found.json").read_text())
    assert set(found["alarms"]) == {"weight_decay"} and len(found["bugs"]) == len(bugs("weight_decay"))
    assert not any("torch" in tool for tool in found["alarms"]["weight_decay"])
    assert "torch" not in (tmp_path / "found.md").read_text()


def test_pytorch_is_handed_what_numpy_computes(tools):
    """To the bit; a pair whose backward is another is noticed, by the wrapper's test and by gradcheck."""
    pytest.importorskip("torch")
    for name in ("Dense(4, 5, activation='tanh')", "Reparameterize(3)", "gaussian_kl"):
        assert not tools.wrapped_wrongly(name)
    with planted(the_bug("Dense", "dW_sign", "Dense(5, 3)")):
        pair, arrays = tools.known()["Dense(5, 3)"].build(), tools.sound_points("Dense(5, 3)")[0]
        assert not tools.passes("torch", lambda: pair, [arrays])
    sign = tools.gradcheck_findings.wrong_sign
    assert [tools.passes("torch", lambda pair=pair: pair, [arrays]) for pair, arrays in (sign(), sign(1.0))] == \
        [True, False], "the same mistake is seen where the loss is not divided"
