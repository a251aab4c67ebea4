"""The side-by-side benchmark: workers speak their protocol, take turns, are refused where they compute something else,
and its numbers, table and marks in the README are what they say.
"""
import io
import itertools
import json
import math
import sys
from pathlib import Path
from statistics import median

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
MODELS = ("conv-ae", "conv-vae", "mlp-vae", "tied-ae", "bernoulli-vae")
FAKE = """import json, os, sys
sys.path.insert(0, {benchmarks!r})
from side_by_side import serve
error = float(sys.argv[1])
serve(lambda i: None, {{"errors": {{"double": {{"loss": 0.0}}, "loss": 0.0, "grad": {{"W": error}}, "theta": 0.0}},
                        "threads": os.environ["OMP_NUM_THREADS"], "said": sys.argv}})
"""


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)


@pytest.fixture
def fake(tmp_path):
    """A worker's script whose gradients are as far off as it is told."""
    path = tmp_path / "fake.py"
    path.write_text(FAKE.format(benchmarks=str(BENCHMARKS)))
    return str(path)


# ---- the protocol

def test_a_worker_takes_consecutive_steps_and_answers_with_the_seconds_of_those_asked_for(monkeypatch):
    import side_by_side

    clock, taken, answers = [0.0], [], io.StringIO()

    def step(i):
        taken.append(i)
        clock[0] += 1.0
        print("a library's word")

    def finish():
        clock[0] += 0.25

    monkeypatch.setattr(side_by_side.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(sys, "stdin", io.StringIO("3\n1\n"))
    monkeypatch.setattr(sys, "stdout", answers)
    side_by_side.serve(step, {"it": "is"}, finish)
    assert taken == list(range(2 * side_by_side.UNTIMED + 4))
    assert answers.getvalue().splitlines() == ['{"it": "is"}', "3.25", "1.25"], "nothing else is an answer"


def test_a_worker_is_a_process_with_so_many_threads(fake):
    from side_by_side import Worker, thread_settings

    with Worker([sys.executable, fake, "0"], threads=3) as worker:
        assert worker.ready["threads"] == "3" and worker.ready["said"] == [fake, "0"]
        assert 0 <= worker.run(2) < 5 and worker.process.poll() is None
    assert worker.process.poll() is not None, "it has ended"
    assert set(thread_settings(1).values()) == {"1"} and "NUMBA_NUM_THREADS" in thread_settings(1)


@pytest.mark.parametrize(("code", "word"), [
    ("import sys; sys.exit('out of breath')", "out of breath"), ("raise SystemExit(3)", "code 3"),
    ("print('hello')", "'hello")])
def test_a_worker_that_fails_says_why(code, word):
    from side_by_side import Worker, WorkerError

    with pytest.raises(WorkerError, match=word):
        Worker([sys.executable, "-c", code], threads=1)


def test_a_worker_that_dies_at_work_is_an_error_and_not_a_hang():
    from side_by_side import Worker, WorkerError

    code = "import sys; print('{}', flush=True); sys.stdin.readline(); sys.exit('tired')"
    with Worker([sys.executable, "-c", code], threads=1) as worker, pytest.raises(WorkerError, match="tired"):
        worker.run(1)


def test_turns_go_round_and_last_as_long_for_the_slow_as_for_the_fast():
    from side_by_side import in_turn

    log = []

    class Fake:
        def __init__(self, name, pace):
            self.name, self.pace = name, pace

        def run(self, steps):
            log.append((self.name, steps))
            return steps * self.pace

    times = in_turn({"A": Fake("A", 0.01), "B": Fake("B", 0.1), "C": Fake("C", 9.0)}, 3, seconds=0.3, rest=0)
    assert [name for name, _ in log] == list("ABC") * 4, "one turn each to find the pace, then three rounds"
    assert [steps for _, steps in log[3:]] == [30, 3, 1] * 3
    assert {name: pytest.approx(t) for name, t in times.items()} == {"A": [0.01] * 3, "B": [0.1] * 3, "C": [9.0] * 3}


# ---- numbers

def test_a_ratio_is_the_median_over_rounds_and_not_a_ratio_of_medians():
    from side_by_side import geometric_mean, ratio

    steps = {"npae": [1.0, 4.0, 2.0], "eager": [3.0, 4.0, 2.0]}
    assert ratio(steps, "eager", "npae") == 1.0
    assert median(steps["eager"]) / median(steps["npae"]) == 1.5
    assert geometric_mean([2.0, 0.5]) == pytest.approx(1) and geometric_mean([1, 8, 27]) == pytest.approx(6)


def a_run(npae, eager, compiled=None, jax=None, batch=10):
    from vs_torch_report import compared

    steps = {"npae": npae, "eager": eager, "torch.compile": compiled, "JAX jit": jax}
    steps = {name: times for name, times in steps.items() if times}
    return {"batch": batch, "errors": {}, "refused": {}, "steps": steps, **compared(steps)}


def test_the_peer_is_the_fastest_mode_and_jax_is_none_of_them():
    run = a_run([1.0, 1.0], [3.0, 3.2], [2.0, 2.4], [1.5, 1.1])
    assert run["peer"] == "torch.compile"
    assert run["ratio"] == pytest.approx(2.2) and run["best"] == 2.0 and run["jax"] == pytest.approx(1.3)
    assert "ratio" not in a_run([1.0], None) and "peer" not in a_run([1.0], None, None, [2.0])


def test_a_summary_is_the_median_of_the_runs_and_their_range():
    from vs_torch_report import summary

    runs = [{"a": a_run([1.0], [r]), "b": a_run([0.5], [2 * r])} for r in (2.0, 8.0, 4.0)]
    found = summary(runs)
    assert found["models"]["a"]["ratio"] == 4 and found["models"]["a"]["ratio_range"] == [2, 8]
    assert found["ratio"] == pytest.approx(8) and found["ratio_range"] == pytest.approx([4, 16]), "2r = sqrt(r · 4r)"
    assert found["models"]["b"]["images"]["npae"] == 20 and found["models"]["b"]["median"]["eager"] == 8
    runs[1]["b"] = a_run([0.5], None)
    assert summary(runs)["ratio_range"] == pytest.approx([4, 8]), "a run without one model has no mean"
    assert summary(runs)["models"]["b"]["ratio_range"] == [8, 16]


def test_the_machine_and_the_versions_are_told():
    import numba
    from side_by_side import machine, versions

    assert versions("numba", "no-such-package") == {"python": sys.version.split()[0], "numba": numba.__version__}
    assert machine()["cores"] >= 1 and machine()["cpu"]


def test_a_busy_machine_is_told(monkeypatch):
    import side_by_side

    for load, said in ((0.2, False), (3.4, True)):
        monkeypatch.setattr(side_by_side.os, "getloadavg", lambda load=load: (load, 9.0, 9.0), raising=False)
        assert bool(side_by_side.others_at_work()) == said
    assert "3.4 threads" in side_by_side.others_at_work()


# ---- who is refused

@pytest.mark.parametrize(("changed", "word"), [
    ({"loss": 2e-4}, "the loss is 2.0e-04 off"), ({"grad": 2e-3}, "a gradient"), ({"theta": math.nan}, "theta"),
    ({"double": 1e-9}, "float64"), ({"grad": math.inf}, "inf")])
def test_what_is_too_far_from_npae_is_told(changed, word):
    from vs_torch import disagreement, worst

    near = {"double": {"loss": 1e-15, "W": 1e-14}, "loss": 1e-7, "grad": {"W": 1e-6, "b": 2e-4}, "theta": 1e-6}
    assert worst(near) == {"double": 1e-14, "loss": 1e-7, "grad": 2e-4, "theta": 1e-6} and not disagreement(worst(near))
    assert word in disagreement({**worst(near), **changed})
    assert math.isnan(worst({"grad": {"a": 1.0, "W": math.nan, "b": math.inf}})["grad"])


def test_a_peer_that_computes_something_else_is_not_timed_and_loudly_so(fake, capsys):
    from vs_torch import side_by_side

    peers = {"liar": [sys.executable, fake, "0.5"], "eager": [sys.executable, fake, "1e-9"],
             "dead": [sys.executable, "-c", "raise SystemExit('no such thing')"]}
    run = side_by_side("tied-ae", 1, peers, rounds=2, batch_size=2)
    assert list(run["steps"]) == ["npae", "eager"] and all(len(times) == 2 for times in run["steps"].values())
    assert run["batch"] == 2 and run["peer"] == "eager" and 0 < run["ratio"] < 1, "it does nothing"
    assert set(run["refused"]) == {"liar", "dead"} and "no such thing" in run["refused"]["dead"]
    assert "tied-ae, liar: NOT TIMED" in (said := capsys.readouterr().err) and "5.0e-01 off" in said


# ---- what is handed over

@pytest.fixture
def handed(tmp_path):
    """A recipe's handover, of small batches."""
    from handover import write
    from steps import Step

    def hand(recipe, batch_size=3):
        write(Step(recipe, batch_size), tmp_path / "handover.npz")
        return tmp_path / "handover.npz"

    return hand


def test_gradients_of_every_batch_and_three_steps_along_them_are_handed_over(handed):
    file = np.load(handed("bernoulli-vae"))
    facts, x = json.loads(str(file["facts"])), file["x"]
    assert facts["kl"] == "sampled" and facts["beta"] == 1 and x.shape == (8, 3, 28, 28, 1)
    lr, b1, b2, eps = (facts["optimizer"][key] for key in ("lr", "beta1", "beta2", "eps"))
    for name in ("encoder.0.W", "decoder.4.b"):
        theta, m, v = file[f"start/{name}"].astype(np.float64), 0.0, 0.0
        for t in (1, 2, 3):
            g = file[f"grad/{name}/{t - 1}"].astype(np.float64)
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
            theta = theta - lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
        np.testing.assert_allclose(file[f"end/{name}"], theta, atol=1e-3 * lr, rtol=1e-6)
        assert not np.array_equal(file[f"grad/{name}/0"], file[f"grad/{name}/7"])
        np.testing.assert_allclose(file[f"grad/{name}/0"], file[f"grad64/{name}"], rtol=0,
                                   atol=1e-5 * np.abs(file[f"grad64/{name}"]).max())
    assert file["loss"][0] == pytest.approx(float(file["loss64"]), rel=1e-6)


def test_a_loss_is_handed_over_without_its_constant(monkeypatch):
    import handover
    from steps import Step

    file = {}
    monkeypatch.setattr(handover.np, "savez", lambda path, **arrays: file.update(arrays))  # 100 MB
    step = Step("mlp-vae", 2)
    handover.write(step, Path("nowhere"))
    x = step.x[0].reshape(2, -1)
    assert file["loss"][0] == pytest.approx(file["loss64"])
    assert 0 < file["loss64"] < 1.5 * np.sum((x - 0.5) ** 2), "392 ln π would be far above"


@pytest.mark.parametrize("model", MODELS)
def test_pytorch_computes_what_npae_computes(handed, model):
    """To 1e-10 in float64, and in float32 as it is timed."""
    pytest.importorskip("torch")
    from torch_peer import Peer
    from vs_torch import DENSE, disagreement, worst

    path = handed(model)
    for mode in ("eager",) if model in DENSE else ("eager", "channels_last"):
        errors = Peer(path, mode).errors()
        assert not disagreement(worst(errors)) and max(errors["double"].values()) < 1e-12 and errors["loss"] < 2e-6
        assert {name.partition(".")[0] for name in errors["grad"]} == {"encoder", "decoder"}


@pytest.mark.parametrize(("model", "changed", "word"), [
    ("conv-vae", {"beta": 0.4}, "float64"), ("bernoulli-vae", {"kl": "analytic"}, "float64"),
    ("tied-ae", {"optimizer": {"optimizer": "Adam", "lr": 1e-3, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8}}, "theta"),
    ("conv-ae", {"optimizer": {"optimizer": "RMSprop", "lr": 3e-4, "rho": 0.99, "eps": 1e-7}}, "theta")])
def test_pytorch_with_another_setting_is_refused(handed, model, changed, word):
    pytest.importorskip("torch")
    from torch_peer import Peer
    from vs_torch import disagreement, worst

    path = handed(model)
    arrays = dict(np.load(path))
    np.savez(path, **{**arrays, "facts": json.dumps({**json.loads(str(arrays["facts"])), **changed})})
    assert word in disagreement(worst(Peer(path, "eager").errors()))


@pytest.mark.parametrize("model", MODELS)
def test_jax_computes_what_npae_computes(handed, model):
    pytest.importorskip("jax")
    from jax_peer import Peer
    from vs_torch import disagreement, worst

    assert not disagreement(worst(Peer(handed(model)).errors()))


# ---- words, table, picture

def a_result(threads=("2", "1"), jax=(6.0,)):
    from vs_torch_report import summary

    runs = {n: [{"conv-ae": a_run([0.002], [0.004 + k / 1000], None, jax and [0.012], batch=64),
                 "tied-ae": a_run([0.001], [0.005], [0.0045], jax and [0.003])} for k in (0, 2, 1)] for n in threads}
    return {"benchmark": "vs_torch", "machine": {"cpu": "a CPU", "cores": 2, "vectors": "avx2"}, "rounds": 1,
            "versions": {"torch": "2.13", "numba": "0.68"},
            "threads": {n: {"repeats": many, "summary": summary(many)} for n, many in runs.items()}}


def test_the_table_says_what_was_measured():
    from vs_torch import markdown

    result = json.loads(json.dumps(a_result(("2",))))
    assert markdown(result).splitlines() == [
        "| model | batch | npae, ms | PyTorch's best, ms | mode | npae, images/s | PyTorch ÷ npae, 2 threads "
        "| JAX ÷ npae, 2 threads |",
        "| --- | --: | --: | --: | --: | --: | --: | --: |",
        "| `conv-ae` | 64 | 2.00 | 5.00 | eager | 32,000 | 2.50 (2.00 to 3.00) | 6.00 (6.00 to 6.00) |",
        "| `tied-ae` | 10 | 1.00 | 4.50 | compile | 10,000 | 4.50 (4.50 to 4.50) | 3.00 (3.00 to 3.00) |",
        "| **geometric mean** |  |  |  |  |  | **3.35 (3.00 to 3.67)** | **4.24 (4.24 to 4.24)** |",
        "", "*Median of 3 side-by-side runs (least to most); a CPU, 2 cores, avx2; PyTorch 2.13, Numba 0.68.*"]
    both = markdown(a_result(jax=None))
    assert "| PyTorch ÷ npae, 2 threads | PyTorch ÷ npae, 1 thread |\n" in both and "JAX" not in both


def test_the_picture_has_a_bar_for_each_ratio():
    from vs_torch_report import picture

    figure = picture(a_result())
    ax, = figure.axes
    wanted = [2.5, 2.5, 4.5, 4.5, math.sqrt(2.5 * 4.5), math.sqrt(2.5 * 4.5)]
    assert [bar.get_width() for bar in ax.patches] == pytest.approx(wanted)
    texts = [text.get_text() for text in ax.texts]
    assert {"conv-ae", "tied-ae", "geometric mean", "2.50", "4.50", "eager", "torch.compile"} <= set(texts)
    assert texts[-2:] == ["■ 2 threads each", "■ 1 thread each"]
    figure.canvas.draw()
    drawn = figure.canvas.get_renderer()
    for one, other in itertools.combinations([text.get_window_extent(drawn) for text in ax.texts
                                              if text.get_text()], 2):
        assert not one.overlaps(other)
    assert all(text.get_window_extent(drawn).x0 >= 0 and text.get_window_extent(drawn).x1 <= figure.bbox.width
               for text in ax.texts)
    result = a_result()
    result["threads"] = {"2": {"summary": {"models": {}}}}
    with pytest.raises(ValueError, match="0 ratios"):
        picture(result)


def test_without_pytorch_a_sentence_says_so_and_npae_is_timed(tmp_path, monkeypatch, capsys):
    import vs_torch

    without = tmp_path / "python"
    without.write_text("#!/bin/sh\nexit 1\n")
    without.chmod(0o755)
    monkeypatch.setattr(sys, "argv", ["vs_torch.py", "--torch-python", str(without), "--jax-python", str(without),
                                      "--models", "tied-ae", "--rounds", "1", "--batch-size", "2", "--threads", "1",
                                      "--json", str(tmp_path / "found.json"), "--picture", str(tmp_path / "no.png")])
    vs_torch.main()
    said = capsys.readouterr().out
    assert f"PyTorch is not installed for {without}" in said and "pip install torch" in said
    assert "tied-ae, batch 2" in said and "images/s" in said and "÷ npae" not in said
    result = json.loads((tmp_path / "found.json").read_text())
    one = result["threads"]["1"]["summary"]["models"]["tied-ae"]
    assert one["median"]["npae"] > 0 and "ratio" not in one and "torch" not in result["versions"]
    table = vs_torch.markdown(result)
    assert table.splitlines()[0] == "| model | batch | npae, ms | npae, images/s |" and "not installed" in table
    assert not (tmp_path / "no.png").exists() and "no picture" in said
    with pytest.raises(ValueError, match=r"no-such-python.*--torch-python"):
        vs_torch.version("/no-such-python", "torch")


# ---- the README

def test_the_readme_is_filled_between_its_marks(tmp_path, monkeypatch):
    import readme
    import vs_torch

    begin, end = readme.marks("vs_torch")
    assert (begin, end) == ("<!-- vs_torch: made by benchmarks/vs_torch.py -->\n", "<!-- end of vs_torch -->\n")
    page, found = tmp_path / "README.md", tmp_path / "found.json"
    page.write_text(f"above\n\n{begin}old\n{end}\nbelow\n", encoding="utf-8")
    found.write_text(json.dumps(result := a_result()))
    monkeypatch.setattr(sys, "argv", ["readme.py", str(found), "--check", "--readme", str(page)])
    with pytest.raises(SystemExit, match="does not say"):
        readme.main()
    assert "old" in page.read_text(encoding="utf-8"), "a check writes nothing"
    monkeypatch.setattr(sys, "argv", ["readme.py", str(found), "--readme", str(page)])
    readme.main()
    assert page.read_text(encoding="utf-8") == f"above\n\n{begin}{vs_torch.markdown(result)}{end}\nbelow\n"
    monkeypatch.setattr(sys, "argv", ["readme.py", str(found), "--check", "--readme", str(page)])
    readme.main()


@pytest.mark.parametrize("text", ["none", "{begin}", "{begin}{begin}{end}", "{end}{begin}"])
def test_a_readme_without_its_marks_is_refused(text):
    import readme

    begin, end = readme.marks("ladder")
    with pytest.raises(ValueError, match=r"one <!-- ladder: made by benchmarks/ladder\.py -->"):
        readme.filled(text.format(begin=begin, end=end), "ladder", "new")


@pytest.mark.parametrize("name", [None, "nothing_of_ours", "../npae/cli", 3])
def test_a_result_that_no_benchmark_wrote_is_refused(name):
    import readme

    with pytest.raises(ValueError, match=r"--json"):
        readme.text_of({"benchmark": name})
