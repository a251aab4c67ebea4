"""The gradient checker on small layers written here: right ones stay green, small mistakes do not.
The layers know nothing of npae; forward, backward and params are all that the checker may ask for."""

import numpy as np
import pytest

from npae.gradcheck import Verdict, check, check_function


class Param:
    """A value and its gradient."""

    def __init__(self, name, value):
        self.name, self.value, self.grad = name, value, np.zeros_like(value)


class Dense:
    """y = x W + b; float32, and without a `to`."""

    def __init__(self, n_in=5, n_out=3, seed=0, dtype=np.float32):
        rng = np.random.default_rng(seed)
        self.W = Param("W", rng.normal(size=(n_in, n_out)).astype(dtype))
        self.b = Param("b", rng.normal(size=n_out).astype(dtype))
        self.params = (self.W, self.b)

    def forward(self, x):
        self.x = x
        return x @ self.W.value + self.b.value

    def backward(self, dy):
        self.W.grad += self.x.T @ dy
        self.b.grad += dy.sum(axis=0)
        return dy @ self.W.value.T


class Tanh:
    """y = tanh(x)"""

    params = ()

    def forward(self, x):
        self.y = np.tanh(x)
        return self.y.copy()

    def backward(self, dy):
        return dy * (1 - self.y**2)


class Relu:
    """y = max(x, 0), which tells its branch and can be held on one."""

    params = ()
    held = None

    def forward(self, x):
        self.mask = x > 0 if self.held is None else self.held
        return x * self.mask

    def backward(self, dy):
        return dy * self.mask

    def branch_signature(self):
        return self.mask

    def hold(self, branch):
        self.held = branch


class SilentRelu:
    """y = max(x, 0), which tells nobody."""

    params = ()

    def forward(self, x):
        self.mask = x > 0
        return x * self.mask

    def backward(self, dy):
        return dy * self.mask


class KL:
    """KL(N(mu, exp(logvar)) || N(0, 1)) of x = [mu | logvar]: a sum over latents, a mean over images, a number."""

    params = ()

    def forward(self, x):
        self.x = x
        mu, logvar = np.split(x, 2, axis=1)
        return 0.5 * (mu**2 + np.exp(logvar) - 1 - logvar).sum() / len(x)

    def backward(self, dy):
        mu, logvar = np.split(self.x, 2, axis=1)
        return dy * np.hstack([mu, 0.5 * (np.exp(logvar) - 1)]) / len(self.x)


class Max:
    """The largest of each pair of neighbours; the first wins a tie."""

    params = ()

    def forward(self, x):
        self.pairs = x.reshape(len(x), -1, 2)
        self.winner = self.pairs.argmax(axis=2)
        return np.take_along_axis(self.pairs, self.winner[..., None], axis=2)[..., 0]

    def backward(self, dy):
        dx = np.zeros(self.pairs.shape, dy.dtype)
        np.put_along_axis(dx, self.winner[..., None], dy[..., None], axis=2)
        return dx.reshape(len(dy), -1)

    def branch_signature(self):
        return (None, (self.winner,))


class Dropout:
    """Half of x, doubled, where there is a generator; x itself where there is none."""

    params = ()
    rng = None

    def give_rng(self, rng):
        self.rng = rng

    def forward(self, x):
        self.mask = np.ones(x.shape) if self.rng is None else 2.0 * (self.rng.random(x.shape) < 0.5)
        self.mask = self.mask.astype(x.dtype)
        return x * self.mask

    def backward(self, dy):
        return dy * self.mask


class Model:
    """A noisy two-layer net with ReLU: loss = sum (r - x)^2 / N; parameters as views of one vector."""

    def __init__(self, n=6, hidden=20, seed=0, dtype=np.float32):
        rng = np.random.default_rng(seed)
        self.first, self.second = Dense(n, hidden, seed, dtype), Dense(hidden, n, seed + 1, dtype)
        self.relu, self.noise = Relu(), Dropout()
        for part, param in [("first", p) for p in self.first.params] + [("second", p) for p in self.second.params]:
            param.name = f"{part}.{param.name}"
        self.params = self.first.params + self.second.params
        self.theta = rng.normal(size=sum(p.value.size for p in self.params)).astype(dtype)
        self.grad = np.zeros_like(self.theta)
        start = 0
        for p in self.params:
            stop = start + p.value.size
            p.value = self.theta[start:stop].reshape(p.value.shape)
            p.grad = self.grad[start:stop].reshape(p.grad.shape)
            start = stop

    def to(self, dtype=None, kernels=None):
        other = Model(*self.first.W.value.shape, dtype=dtype)
        other.theta[...] = self.theta
        return other

    def loss(self, x, y=None, rng=None):
        self.noise.give_rng(rng)
        h = self.relu.forward(self.first.forward(self.noise.forward(x)))
        self.error = self.second.forward(h) - x
        recon = float((self.error**2).sum() / len(x))
        return {"loss": recon, "recon": recon}

    def backward(self):
        dh = self.second.backward(2 * self.error / len(self.error))
        self.first.backward(self.relu.backward(dh))

    def branch_signature(self):
        return (None, self.relu.branch_signature())

    def hold(self, branch):
        self.relu.hold(None if branch is None else branch[1])


SUBJECTS = {
    "dense": (lambda seed: Dense(seed=seed), (4, 5)),
    "dense, square": (lambda seed: Dense(4, 4, seed), (3, 4)),
    "dense, N = 1": (lambda seed: Dense(2, 3, seed), (1, 2)),
    "tanh": (lambda seed: Tanh(), (3, 4)),
    "relu": (lambda seed: Relu(), (5, 7)),
    "silent relu": (lambda seed: SilentRelu(), (5, 7)),
    "kl": (lambda seed: KL(), (3, 4)),
    "max": (lambda seed: Max(), (3, 6)),
    "dropout": (lambda seed: Dropout(), (3, 5)),
    "model": (lambda seed: Model(seed=seed), (4, 6)),
}


def run(name, seed):
    """Check one subject on random data."""
    make, shape = SUBJECTS[name]
    rng = np.random.default_rng(seed)
    return check(make(seed), rng.normal(size=shape), rng=rng, seed=seed, entries=25)


@pytest.mark.parametrize("name", SUBJECTS)
def test_right_layers_are_green_with_any_seed(name):
    for seed in range(30):
        report = run(name, seed)
        assert report.ok, f"seed {seed}\n{report}"


@pytest.mark.slow
@pytest.mark.parametrize("name", SUBJECTS)
def test_right_layers_are_green_with_two_hundred_seeds(name):
    for seed in range(1000, 1200):
        report = run(name, seed)
        assert report.ok, f"seed {seed}\n{report}"


def test_an_entry_wrong_by_one_in_a_million_is_caught():
    """One entry of the claimed gradient times 1 + 1e-6, each in turn, over several functions: 99 % and more."""
    verified = caught = 0
    for seed in range(5):
        x = np.random.default_rng(seed).normal(size=(3, 4))
        for layer, shape in ((Tanh(), x.shape), (KL(), ()), (Dense(4, 2, seed, np.float64), (3, 2))):
            g = np.asarray(np.random.default_rng([seed, 1]).normal(size=shape))
            for k in range(x.size):
                def f(x, layer=layer, g=g, k=k):
                    value = float((g * layer.forward(x)).sum())
                    dx = layer.backward(g)
                    dx.flat[k] *= 1 + 1e-6
                    return value, dx

                terms = float(np.abs(g * layer.forward(x)).sum())
                entry = check_function(f, x, terms=terms).rows[0].entries[k]
                verified += entry.verdict in (Verdict.PASS, Verdict.FAIL)
                caught += entry.verdict is Verdict.FAIL
    assert verified == 5 * 3 * 12
    assert caught >= 0.99 * verified


def test_a_layer_wrong_by_one_in_a_million_is_caught_in_every_entry_but_the_smallest():
    class SlightlyWrong(Dense):
        def backward(self, dy):
            super().backward(dy)
            self.W.grad *= 1 + 1e-6
            self.b.grad *= 1 + 1e-6
            return dy @ self.W.value.T * (1 + 1e-6)

    entries = [entry for seed in range(5) for row in
               check(SlightlyWrong(40, 20, seed, np.float64), np.random.default_rng(seed).normal(size=(8, 40))).rows
               for entry in row.entries if entry.verdict in (Verdict.PASS, Verdict.FAIL)]
    assert len(entries) > 5000
    assert sum(entry.verdict is Verdict.FAIL for entry in entries) >= 0.99 * len(entries)


def test_each_entry_costs_six_forwards():
    class Counted(Tanh):
        forwards = 0

        def forward(self, x):
            Counted.forwards += 1
            return super().forward(x)

    check(Counted(), np.random.default_rng(0).normal(size=(3, 4)), entries=12)
    with_twelve, Counted.forwards = Counted.forwards, 0
    check(Counted(), np.random.default_rng(0).normal(size=(3, 4)), entries=2)
    along_directions = 3 * 6 + 1  # where not every entry was looked at
    assert with_twelve - Counted.forwards == 10 * 6 - along_directions
