"""What a trace costs: at most the step once more while it is open, and nothing when it is not there."""
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from npae.trace import Trace

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from steps import MODELS, Step


def ratio(name, times):
    """Median CPU seconds of a traced step over those of a plain one, in turns in one process."""
    step, seconds = Step(name), ([], [])
    for i in range(3):
        step(i)
    with Trace(step.model):
        step(3)
    for i in range(times):
        start = time.process_time()
        step(i)
        middle = time.process_time()
        with Trace(step.model) as t:
            step(i)
        seconds[0].append(middle - start)
        seconds[1].append(time.process_time() - middle)
    assert t.rows[-1].gradient is not None and t.rows[-1].params is not None and t.steps == 1
    return np.median(seconds[1]) / np.median(seconds[0])


def ratio_alone(name, times):
    """In a process of its own with one thread, where the CPU seconds of a step are those of its work."""
    code = (f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
            f"from test_trace_cost import ratio\nprint(ratio({name!r}, {times}))")
    alone = {**os.environ, "NUMBA_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=1200,
                          env=alone)
    return float(done.stdout)


def test_tracing_a_step_costs_about_as_much_as_the_step():
    """The recipe whose steps are the shortest, with a margin for machines that are busy."""
    assert ratio_alone("tied-ae", 40) < 2.5


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_traced_step_costs_at_most_twice_the_step(name):
    found = ratio_alone(name, 120 if name == "tied-ae" else 15)
    print(f"\n{name}: a traced step costs {found:.2f} times a plain one", end="")
    assert found <= 2


def test_what_was_traced_runs_through_the_classes_own_methods_again():
    """No wrapper is left in the way: a call costs what it did."""
    step = Step("tied-ae")
    with Trace(step.model):
        assert "forward" in vars(step.model.encoder.layers[2])
        step(0)
    for layer in (*step.model.encoder.walk(), *step.model.decoder.walk()):
        assert layer.forward.__func__ is type(layer).forward and layer.backward.__func__ is type(layer).backward
    assert step.model.loss.__func__ is type(step.model).loss
