"""It names the bug: explanations of a failed check, each found by a candidate that was tested against the numbers."""

from npae.gradcheck.diagnosis.function import diagnose_function
from npae.gradcheck.diagnosis.layer import diagnose_layer, layer_facts
from npae.gradcheck.diagnosis.model import diagnose_model
from npae.gradcheck.diagnosis.values import explain_values

__all__ = ["diagnose_function", "diagnose_layer", "diagnose_model", "explain_values", "layer_facts"]
