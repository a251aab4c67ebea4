"""L-BFGS on all pictures at once, through SciPy."""
from collections.abc import Callable
from typing import Any

import numpy as np

from npae.checks import whole
from npae.optim.base import Optimizer, kind


class LBFGS(Optimizer):
    """Whole-batch minimisation by limited-memory BFGS, through SciPy: for objectives without chance, in float64.

    It moves along a direction that the last `memory` gradients suggest, as far as a line search finds good: there is no
    rate to choose. `fit` hands it all pictures at once, and calls each iteration an epoch.
    Source: Liu and Nocedal 1989; SciPy's L-BFGS-B without bounds.
    """

    def __init__(self, memory: int = 10) -> None:
        super().__init__(1.0)
        self.memory = whole(memory, "memory")

    def step(self, theta: np.ndarray, grad: np.ndarray) -> None:
        """There is no step on one gradient.

        Raises: ValueError always: it says what to call.
        """
        raise ValueError("L-BFGS asks for the loss at points of its own choice: use train.fit, or minimize(f, theta)")

    def minimize(self, f: Callable[[np.ndarray], tuple[float, np.ndarray]], theta: np.ndarray, iterations: int,
                 after: Callable[[np.ndarray], bool] = lambda theta: False) -> None:
        """Move theta, in place, to where f(theta) -> (value, gradient) is least, in at most so many iterations.

        `after(theta)` is called after each; True ends it. It also ends where no step makes f less.
        Raises: ValueError for a theta that is not float64: the line search lives on the last digits.
        """
        from scipy.optimize import minimize

        if theta.dtype != np.float64:
            raise ValueError(f"L-BFGS needs float64, got theta {kind(theta)}: build the model in float64, or use "
                             "model.to(np.float64)")

        def callback(intermediate_result: Any) -> None:
            self.steps += 1
            if after(intermediate_result.x):
                raise StopIteration

        found = minimize(f, theta.copy(), jac=True, method="L-BFGS-B", callback=callback,
                         options={"maxiter": iterations, "maxfun": 20 * iterations, "maxcor": self.memory,
                                  "ftol": 0.0, "gtol": 0.0})
        theta[...] = found.x
