"""The trace: what happens in a step, layer by layer, forward and back, in numbers, in words and on a page.
"""
from npae.trace.record import Trace
from npae.trace.rows import LayerTrace, ParamTrace
from npae.trace.statistics import Stats

__all__ = ["LayerTrace", "ParamTrace", "Stats", "Trace"]
