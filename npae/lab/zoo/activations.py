"""Activations: wrong slopes, wrong sides of the kink, formulas that overflow, and what forward remembers.
"""
from npae.lab.planting import Bug, Edit

ROOM = "npae.layers.activations:"
FORWARD = f"{ROOM}Activation._forward"
BACKWARD = "npae.kernels.reference:activate_input_grad"
LEAKY = "LeakyReLU(0.3)"
MASK_OF_X = Edit(FORWARD, "self._kept(y)", "self._kept(x)")  # y is 0 at x = -1 too


def _bug(name: str, did: str, subject: str, killed_by: str, says: tuple[str, ...], *edits: Edit) -> Bug:
    return Bug(subject.split("(")[0], name, did, subject, edits, killed_by, says)


def _slope(kind: str, name: str, did: str, killed_by: str, says: tuple[str, ...], old: str, new: str,
           arguments: str = "") -> Bug:
    return _bug(name, did, f"{kind}({arguments})", killed_by, says, Edit(f"{ROOM}{kind}.slope", old, new))


SLOPES = (
    _slope("Sigmoid", "sigmoid_slope_of_the_input", "The slope is x (1 - x), with the input in it.", "G",
           ("is taken at the input|is x (1 - x) where",), "return y * (1 - y)",
           "x = np.log(y / (1 - y))\n        return x * (1 - x)"),
    _bug("tanh_slope_of_the_input", "Forward remembers x where the slope is a function of y.", "Tanh()", "G",
         ("is taken at the input|is 1 - x² where",), Edit(FORWARD, "self._kept(y)", "self._kept(x)")),
    _slope("Sigmoid", "sigmoid_slope_y_squared", "The slope is y².", "G", ("is y² where",), "y * (1 - y)", "y * y"),
    _slope("Tanh", "tanh_slope_squared_difference", "The slope is (1 - y)².", "G", ("is (1 - y)² where",),
           "1 - y * y", "(1 - y) * (1 - y)"),
    _slope("Sigmoid", "sigmoid_slope_y", "The slope is y: the factor 1 - y is forgotten.", "G", ("is y where",),
           "y * (1 - y)", "y"),
    _slope("Tanh", "tanh_slope_y_squared", "The slope is y²: 1 - is forgotten.", "G", ("is y² where",),
           "1 - y * y", "y * y"),
    _slope("Tanh", "tanh_slope_without_the_square", "The slope is 1 - y.", "G", ("is 1 - y where",),
           "1 - y * y", "1 - y"),
    _slope("Tanh", "tanh_slope_of_the_sigmoid", "The slope is that of the sigmoid, y (1 - y).", "G",
           ("is y (1 - y) where",), "1 - y * y", "y * (1 - y)"),
    _slope("Sigmoid", "sigmoid_second_derivative", "The slope is 1 - 2 y, which is its derivative.", "G", (),
           "y * (1 - y)", "1 - 2 * y"),
    _slope("Softplus", "softplus_slope_sigmoid_of_y", "The slope is the sigmoid of y instead of x.", "G",
           ("is taken at the output|is sigmoid(y) where",), "-np.expm1(-y)", "1 / (1 + np.exp(-y))"),
    _slope("Softplus", "softplus_slope_without_1_minus", "The slope is exp(-y): 1 - is forgotten.", "G",
           ("is exp(-y) where",),
           "-np.expm1(-y)", "np.exp(-y)"),
    _bug("dy_ignored", "Backward gives the slope itself, not times dy.", "Tanh()", "GL",
         ("does not depend on dy",), Edit(BACKWARD, "dy * activation.slope(y)", "activation.slope(y)")),
    _bug("slope_of_dy_times_y", "The slope is taken of dy, and multiplied by y.", "Sigmoid()", "GL", (),
         Edit(BACKWARD, "dy * activation.slope(y)", "y * activation.slope(dy)")),
)
KINKS = (
    _bug("relu_slope_1_at_0", "The mask is x >= 0: the slope at exactly 0 is 1.", "ReLU()", "R",
         ("is 1 where 0 belongs",), MASK_OF_X, Edit(f"{ROOM}ReLU.slope", "np.zeros((), y.dtype)", "1")),
    _bug("relu_slope_half_at_0", "The slope at exactly 0 is 1/2, as the mean of both sides.", "ReLU()", "R",
         ("is ½ where 0 belongs|is 0.5 where 0 belongs|at exactly 0 the slope",),
         MASK_OF_X, Edit(f"{ROOM}ReLU.slope", "np.zeros((), y.dtype)", "0.5")),
    _slope("ReLU", "relu_slope_1_at_y_0", "The mask is y >= 0, and y is 0 wherever x is negative.", "G",
           ("the derivative of the activation is missing|is 1 where",), "np.zeros((), y.dtype)",
           "np.ones((), y.dtype)"),
    _bug("relu_mask_of_dy", "The mask is taken from the sign of dy.", "ReLU()", "GL",
         ("the mask is taken from dy",), Edit(BACKWARD, "activation.slope(y)", "activation.slope(dy)")),
    _slope("ReLU", "relu_mask_above_1", "The mask is x > 1.", "G", ("is [y > 1] where|is [x > 1] where",),
           "heaviside(y, ", "heaviside(y - 1, "),
    _slope("LeakyReLU", "leaky_slope_forgotten", "On the left side backward gives nothing, as for ReLU.", "G",
           ("for x < 0", "is 0 where 0.3 belongs"),
           "return step + (1 - step) * y.dtype.type(self.alpha)", "return step", "0.3"),
    _slope("LeakyReLU", "leaky_sides_swapped", "alpha is the slope on the right side.", "G",
           ("is 1 where 0.3 belongs", "is 0.3 where 1 belongs"),
           "step + (1 - step) * y.dtype.type(self.alpha)", "step * y.dtype.type(self.alpha) + (1 - step)", "0.3"),
    _bug("leaky_alpha_fixed_in_forward", "Forward takes 0.01, whatever alpha is.", LEAKY, "GR",
         ("for x < 0", "is 0.3 where 0.01 belongs"),
         Edit(f"{ROOM}LeakyReLU.f", "self.alpha", "0.01")),
    _bug("leaky_alpha_fixed_consistent", "alpha is 0.01 forward and backward, whatever was asked for.", LEAKY, "R",
         ("y", "for x < 0"),
         Edit(f"{ROOM}LeakyReLU.f", "self.alpha", "0.01"), Edit(f"{ROOM}LeakyReLU.slope", "self.alpha", "0.01"),
         Edit(f"{ROOM}ReLU.on_branch", "self.alpha", "0.01")),
    _bug("leaky_held_as_relu", "A held branch is continued with slope 0 on the left.", LEAKY, "G",
         ("on held branches",),
         Edit(f"{ROOM}ReLU.on_branch", "self.alpha", "0")),
    _bug("relu_branch_not_told", "The layer does not say on which side of its kink it is.", "ReLU()", "G", (),
         Edit(f"{ROOM}ReLU.branch", "return y > 0", "return None")),
    _bug("relu_branch_with_0", "The signature of the branch is y >= 0, which holds everywhere.", "ReLU()", "G",
         ("on held branches",),
         Edit(f"{ROOM}ReLU.branch", "y > 0", "y >= 0")),
)
VALUES = (
    _bug("relu_in_place", "ReLU clips the caller's x.", "ReLU()", "S", ("writes into x",),
         Edit(f"{ROOM}ReLU.f", "_refuse_complex(self, x)", "x[x <= 0] = 0")),
    _bug("relu_swallows_nan", "y = x where x > 0, else 0: a not-a-number becomes 0.", "ReLU()", "R",
         ("a not-a-number became a number",),
         Edit(f"{ROOM}ReLU.f", "np.where(x <= 0, np.zeros((), x.dtype), x)",
              "np.where(x > 0, x, np.zeros((), x.dtype))")),
    _bug("sigmoid_overflows", "sigmoid(x) = exp(x) / (1 + exp(x)), which is inf / inf for a large x.", "Sigmoid()",
         "R", ("f(800) =", "nan"), Edit(f"{ROOM}Sigmoid.f", "e = np.exp(np.where(x.real < 0, x, -x))", "e = np.exp(x)"),
         Edit(f"{ROOM}Sigmoid.f", "np.where(x.real < 0, e, np.ones((), x.dtype)) / (1 + e)", "e / (1 + e)")),
    _bug("softplus_overflows", "softplus(x) = log(1 + exp(x)): inf for a large x, 0 for a small one.", "Softplus()",
         "R", ("f(800) =", "inf"),
         Edit(f"{ROOM}Softplus.f", "return", "return np.log(1 + np.exp(x)) + zero\n        return")),
    _bug("tanh_overflows", "tanh(x) = (exp(2x) - 1) / (exp(2x) + 1), which is inf / inf for a large x.", "Tanh()", "R",
         ("f(800) =", "nan"), Edit(f"{ROOM}Tanh.f", "np.tanh(x)", "(np.exp(2 * x) - 1) / (np.exp(2 * x) + 1)")),
    _bug("tanh_of_half_consistent", "y = 2 sigmoid(x) - 1, which is tanh(x / 2); the slope is that of it.", "Tanh()",
         "R", (), Edit(f"{ROOM}Tanh.f", "np.tanh(x)", "np.tanh(x / 2)"),
         Edit(f"{ROOM}Tanh.slope", "1 - y * y", "(1 - y * y) / 2")),
    _bug("y_remembered_is_y_returned", "Backward's y is the array that the caller was given.", "Sigmoid()", "S",
         ("returns its own cache",), Edit("npae.layers.base:Layer._kept", "y.copy()", "y")),
    _bug("y_upcast", "float32 silently becomes float64.", "Sigmoid()", "S", ("float64 comes out of float32",),
         Edit(FORWARD, "x.dtype", "np.float64")),
    _bug("dx_upcast", "dx is float64, whatever dy is.", "Tanh()", "S", ("float64 comes out of float32",),
         Edit(f"{ROOM}Activation._backward", "y.dtype", "np.float64")),
)
BUGS = (*SLOPES, *KINKS, *VALUES)
NOT_HERE = {"elu_out": "npae has no ELU"}
