"""Draws what a model has learned: each picture has a title, says its units and can go on a slide as it is.

Every function takes arrays and returns a matplotlib Figure; the caller's backend and settings are left alone.
"""
from npae.figures.codes import interpolations, traversals
from npae.figures.curves import against_pca, jacobian_spectrum, learning_curves, rate_distortion
from npae.figures.files import check_png, save, training_gif
from npae.figures.gradients import taylor_plot, v_curves
from npae.figures.grids import class_sheet, pair, reconstructions, samples, sheet, triples
from npae.figures.plane import latent_scatter, manifold
from npae.figures.weights import filters, first_weights
from npae.figures.write import write_all

__all__ = [
    "against_pca", "check_png", "class_sheet", "filters", "first_weights", "interpolations", "jacobian_spectrum",
    "latent_scatter", "learning_curves", "manifold", "pair", "rate_distortion", "reconstructions", "samples",
    "save", "sheet", "taylor_plot", "training_gif", "traversals", "triples", "v_curves", "write_all",
]
