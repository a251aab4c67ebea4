"""How weights move: each optimizer is a step on two flat vectors, theta and its gradient, written in place.
A learning rate is a number or a schedule, any callable from the step (counted from 0) to a number.
"""
from npae.optim.base import Optimizer, clip_global_norm
from npae.optim.lbfgs import LBFGS
from npae.optim.rules import SGD, Adam, AdamW, Momentum, RMSprop
from npae.optim.schedules import CosineDecay, ExponentialDecay, LinearWarmup, Schedule, StepDecay

__all__ = ["LBFGS", "SGD", "Adam", "AdamW", "CosineDecay", "ExponentialDecay", "LinearWarmup", "Momentum", "Optimizer",
           "RMSprop", "Schedule", "StepDecay", "clip_global_norm"]
