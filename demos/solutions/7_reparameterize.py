# %% [markdown]
# # Solution of exercise 7: the middle of a variational autoencoder
#
#     ∂z/∂mu = 1                                                     dmu     = dz
#     ∂z/∂sigma = eps,  ∂sigma/∂logvar = exp(logvar / 2) / 2         dlogvar = dz eps sigma / 2
#
#     ∂kl/∂mu = mu                                                   dmu     = dkl mu
#     ∂kl/∂logvar = (exp(logvar) - 1) / 2                            dlogvar = dkl (exp(logvar) - 1) / 2
#
# Both are zero at mu = 0, logvar = 0, the prior itself: a divergence is nowhere less than zero. A check cannot see
# sigma = exp(logvar), right derivative and all: the variance of many samples would.

# %%
import numpy as np


class Reparameterize:
    """z = mu + exp(logvar / 2) eps;   x = [mu | logvar] (N, 2 d) -> z (N, d)"""

    params = ()
    rng = None

    def give_rng(self, rng):
        """Draw eps from this generator; without one there is no noise."""
        self.rng = rng

    def forward(self, x):
        mu, logvar = np.split(x, 2, axis=1)
        eps = np.zeros(mu.shape) if self.rng is None else self.rng.standard_normal(mu.shape)
        self.eps, self.sigma = eps.astype(x.dtype), np.exp(logvar / 2)
        return mu + self.sigma * self.eps

    def backward(self, dz):
        return np.hstack([dz, dz * self.eps * self.sigma / 2])


class GaussianKL:
    """kl = ½ Σ_j (mu² + exp(logvar) - 1 - logvar);   x = [mu | logvar] (N, 2 d) -> kl (N,)"""

    params = ()

    def forward(self, x):
        self.mu, self.logvar = np.split(x, 2, axis=1)
        return 0.5 * (self.mu**2 + np.expm1(self.logvar) - self.logvar).sum(axis=1)

    def backward(self, dkl):
        return dkl[:, None] * np.hstack([self.mu, np.expm1(self.logvar) / 2])
