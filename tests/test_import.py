"""What `import npae` costs: next to nothing, until a heavy library is used."""
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("numba", "scipy", "matplotlib", "tqdm", "pooch", "threadpoolctl")
ROOT = Path(__file__).resolve().parent.parent
SECONDS = 0.3  # beyond the interpreter and NumPy


def fresh(code):
    """What a new interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("module", ["", ".layers", ".models", ".nets", ".train", ".callbacks", ".data", ".kernels",
                                    ".kernels.reference", ".gradcheck", ".optim", ".losses", ".evaluate", ".figures",
                                    ".recipes", ".store", ".lab.catalogue", ".explore", ".measures", ".corruption",
                                    ".reconstruct", ".trace"])
def test_importing_loads_no_heavy_library(module):
    assert fresh(f"import sys, npae{module}; print([m for m in {HEAVY} if m in sys.modules])") == "[]"


def test_making_a_layer_and_using_the_reference_kernels_loads_no_compiler():
    code = ("import sys, numpy as np, npae; from npae.kernels import reference\n"
            "layer = npae.layers.Conv2d(1, 2, 3, kernels=reference)\n"
            "layer.backward(layer.forward(np.zeros((1, 4, 5, 1), np.float32)))\n"
            f"npae.layers.Dense(2, 3); print([m for m in {HEAVY} if m in sys.modules])")
    assert fresh(code) == "[]"


@pytest.mark.parametrize("what", ["npae", "npae, npae.layers, npae.train"])
def test_importing_takes_less_than_a_third_of_a_second(what):
    code = f"import time, numpy; start = time.process_time(); import {what}; print(time.process_time() - start)"
    assert min(float(fresh(code)) for _ in range(5)) < SECONDS


def test_every_public_name_can_be_imported_and_an_unknown_one_is_an_attribute_error():
    code = ("import npae\nfor name in npae.__all__: getattr(npae, name)\nassert set(dir(npae)) >= set(npae.__all__)\n"
            "try: npae.autograd\nexcept AttributeError as error: print(error)")
    assert fresh(code) == "module 'npae' has no attribute 'autograd'"
