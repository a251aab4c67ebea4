"""Gradient checks: is the backward pass that you wrote the derivative of your forward pass?
`check` is for layers and models, `check_layer` for a layer of your own, `check_function` for anything else."""

from npae.gradcheck.dot_test import adjoint, adjoint_pair
from npae.gradcheck.gradient import check, check_function
from npae.gradcheck.protocol import check_layer
from npae.gradcheck.report import Line, Report
from npae.gradcheck.verdicts import Entry, Row, Verdict

__all__ = ["Entry", "Line", "Report", "Row", "Verdict",
           "adjoint", "adjoint_pair", "check", "check_function", "check_layer"]
