"""Layers: each a forward with its backward written under it, by hand.
"""
from npae.layers.activations import Activation, Identity, LeakyReLU, ReLU, Sigmoid, Softplus, Tanh
from npae.layers.base import Layer, Sequential
from npae.layers.build import KINDS, build
from npae.layers.conv import Conv2d, ConvTranspose2d, TiedConvTranspose2d, UpsampleConv2d
from npae.layers.dense import Dense, TiedDense
from npae.layers.latent import Reparameterize
from npae.layers.noise import Dropout, GaussianNoise, MaskingNoise
from npae.layers.pool import AvgPool2d, MaxPool2d
from npae.layers.shape import Flatten, Reshape
from npae.layers.shift import Shift
from npae.layers.upsample import Upsample2d

__all__ = [
    "KINDS", "Activation", "AvgPool2d", "Conv2d", "ConvTranspose2d", "Dense", "Dropout", "Flatten", "GaussianNoise",
    "Identity", "Layer", "LeakyReLU", "MaskingNoise", "MaxPool2d", "ReLU", "Reparameterize", "Reshape", "Sequential",
    "Shift", "Sigmoid", "Softplus", "Tanh", "TiedConvTranspose2d", "TiedDense", "Upsample2d",
    "UpsampleConv2d", "build",
]
