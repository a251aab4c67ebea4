"""Gradient checks: is the backward pass that you wrote the derivative of your forward pass, and if not, what is wrong?
`check` is for layers and models, `check_layer` for a layer of your own, `check_function` for anything else; `taylor`
and `v_curve` show what a gradient leaves of a function, and how far differences can be trusted."""

from npae.gradcheck.curves import VCurve, v_curve, v_curve_of
from npae.gradcheck.dot_test import adjoint, adjoint_pair
from npae.gradcheck.facts import Facts
from npae.gradcheck.gradient import check, check_function
from npae.gradcheck.protocol import check_layer
from npae.gradcheck.report import Line, Report
from npae.gradcheck.taylor import TaylorReport, taylor
from npae.gradcheck.verdicts import Entry, Row, Verdict

__all__ = ["Entry", "Facts", "Line", "Report", "Row", "TaylorReport", "VCurve", "Verdict", "adjoint", "adjoint_pair",
           "check", "check_function", "check_layer", "taylor", "v_curve", "v_curve_of"]
