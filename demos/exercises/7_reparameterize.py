# %% [markdown]
# # Exercise 7: the middle of a variational autoencoder
#
# The encoder gives a mean and a log-variance for each of d numbers, as one array x = [mu | logvar]. Two things are made
# of it: a sample z, which goes to the decoder, and the Kullback-Leibler divergence from N(0, 1), which is paid for it.
#
#     z[n, j] = mu[n, j] + sigma[n, j] eps[n, j],     sigma = exp(logvar / 2),    eps drawn from N(0, 1)
#     kl[n]   = ½ Σ_j ( mu[n, j]² + exp(logvar[n, j]) - 1 - logvar[n, j] )
#
# ## On paper
# dz[n, j] = ∂L/∂z[n, j] is given to the first, dkl[n] = ∂L/∂kl[n] to the second. Both owe dmu and dlogvar. Begin with
#
#     ∂L/∂logvar[n, j] = dz[n, j]  ∂z[n, j]/∂sigma[n, j]  ∂sigma[n, j]/∂logvar[n, j]
#     ∂L/∂logvar[n, j] = dkl[n]  ∂kl[n]/∂logvar[n, j]
#
# 1. eps is a number that was drawn before anything else. Does it depend on mu, or on logvar? Why could there be no
#    gradient if z were "drawn from N(mu, sigma²)" without saying how?
# 2. What is ∂z/∂mu? What is ∂z/∂sigma? And ∂sigma/∂logvar, written with sigma again: which factor comes out of the
#    exponent?
# 3. Derive ∂kl/∂mu and ∂kl/∂logvar. For which mu and logvar are both zero, and why does it have to be just there?
# 4. Why logvar and not sigma: what would an encoder have to take care of that gives sigma itself?
#
# ## Before you write
# - x is (N, 2 d), z and eps are (N, d), kl and dkl are (N,). dx has the shape of x: [dmu | dlogvar], in this order.
# - dkl has one number a picture, dmu has d: how do you multiply (N,) by (N, d)? What goes wrong, in silence, if N = d?
# - backward has to use the eps that forward has drawn. What would a gradient be worth that was made with another one?
# - A gradient check differences the forward as it is. If forward had sigma = exp(logvar), and backward its right
#   derivative: would the check see it? (It would not. What would?)
# - Near the prior exp(logvar) - 1 loses its digits, and np.expm1(logvar) does not. Where do you need that?

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
        """Return dx = [dmu | dlogvar]."""
        raise NotImplementedError("backward of Reparameterize: return dx = [dmu | dlogvar]")


class GaussianKL:
    """kl = ½ Σ_j (mu² + exp(logvar) - 1 - logvar);   x = [mu | logvar] (N, 2 d) -> kl (N,)"""

    params = ()

    def forward(self, x):
        self.mu, self.logvar = np.split(x, 2, axis=1)
        return 0.5 * (self.mu**2 + np.expm1(self.logvar) - self.logvar).sum(axis=1)

    def backward(self, dkl):
        """Return dx = [dmu | dlogvar]."""
        raise NotImplementedError("backward of GaussianKL: return dx = [dmu | dlogvar]")


# %% [markdown]
# ## Check it
# `npae grade 7_reparameterize.py` goes through both in stages and gives a hint where one fails. The table of all
# derivatives, yours beside those of differences:

# %%
if __name__ == "__main__":
    from npae import gradcheck

    for layer in (Reparameterize, GaussianKL):
        print(gradcheck.check_layer(layer, (4, 6), rng=np.random.default_rng(0)))
