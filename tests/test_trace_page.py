"""The page of a trace: what is written into it."""
import inspect
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from explorables import dense, labelled, picture_codes, pictures, tied
from traces import of_nan, of_recipe, told_by, traced

from npae.kernels import reference
from npae.lab.catalogue import cases
from npae.layers import Conv2d, Dense, Flatten, Layer, Reshape, Sequential
from npae.models import Autoencoder
from npae.trace import Trace, maps, page, session, source


def test_the_maps_are_the_traces_own_numbers_within_half_a_level():
    t = of_recipe("conv-pool-ae")
    told, blob = told_by(page.page("one", [page.Single(t)], t.model).text)
    assert told["pictures"]["shape"] == [8, 28, 28, 1]
    at = t.pictures.size
    np.testing.assert_allclose(blob[:at] / 255, t.pictures.ravel(), atol=0.5 / 255 + 1e-6)
    for row, said in zip(t.rows, told["frames"][0]["maps"], strict=True):
        for name in ("y", "dy"):
            a = getattr(row, name)
            if a is None:
                assert said[name] is None
                continue
            (c, h, w), scale, total = said[name]
            codes = blob[at:at + 8 * c * h * w].reshape(8, c, h, w).astype(int)
            at += codes.size
            assert total == a.shape[-1] and (c <= 16)
            shown = maps.laid_out(a, (28, 28, 1), 16)
            here = codes != maps.BLANK
            assert (here == np.isfinite(shown)).all() and here.any()
            assert scale == pytest.approx(np.quantile(np.abs(shown[here]), maps.QUANTILE) or np.abs(shown[here]).max())
            expected = np.clip(shown[here] / scale, -1, 1)
            np.testing.assert_allclose((codes[here] - maps.LEVELS) / maps.LEVELS, expected, atol=0.51 / maps.LEVELS)
    painted = t.model.likelihood.mean(t.rows[-1].y)
    np.testing.assert_allclose(blob[at:] / 255, painted.ravel(), atol=0.5 / 255 + 1e-6)


def test_rows_of_numbers_are_laid_out_as_pictures_or_as_squares():
    a = np.arange(24.0).reshape(2, 12)
    np.testing.assert_array_equal(maps.laid_out(a, (3, 4, 1), 16), a.reshape(2, 1, 3, 4))
    square = maps.laid_out(a[:, :10], (3, 4, 1), 16)
    assert square.shape == (2, 1, 3, 4) and np.isnan(square[:, 0, 2, 2:]).all() and square[1, 0, 1, 0] == 16
    assert maps.laid_out(np.zeros((2, 5, 7, 40)), (3, 4, 1), 16).shape == (2, 16, 5, 7)
    assert maps.laid_out(np.zeros((2, 5000)), (3, 4, 1), 16).shape == (2, 1, 32, 32)
    bad = maps.made(np.array([[1.0, np.nan, np.inf]]), (1, 1, 1), 1, 1)
    assert bad.codes.ravel().tolist() == [2 * maps.LEVELS, maps.BAD, maps.BAD, maps.BLANK] and bad.scale == 1
    assert maps.made(np.zeros((1, 4)), (1, 1, 1), 1, 1).scale == 0
    rare = np.zeros((1, 1000))
    rare[0, 3] = 5
    assert maps.made(rare, (1, 1, 1), 1, 1).scale == 5  # one number in a thousand is shown all the same


def test_where_compiled_twins_ran_in_place_of_the_shown_lines_it_is_said():
    for kernels, expected in ((None, [False, True, True, False]), (reference, [False] * 4)):
        rng = np.random.default_rng(0)
        encoder = Sequential([Flatten(), Dense(64, 4, activation="tanh", rng=rng)])
        model = Autoencoder(encoder, Sequential([Dense(4, 64, rng=rng), Reshape((8, 8, 1))])).to(kernels=kernels)
        t = traced(model, pictures((8, 8, 1), 30).train_x[:3] / np.float32(255))
        told, _ = told_by(page.page("one", [page.Single(t)], model).text)
        assert [layer["twins"] for layer in told["layers"]] == expected


def test_without_the_compiler_the_shown_lines_run():
    """As the page promises: a slope that is broken there is seen."""
    code = ("import numpy as np\nfrom npae.layers import Dense, Sequential, Tanh\nfrom npae.models import Autoencoder\n"
            "from npae.trace import Trace, page\nTanh.slope = lambda self, y: 1 - y\n"
            "ae = Autoencoder(Sequential([Dense(6, 3, activation='tanh', rng=0)]), Sequential([Dense(3, 6, rng=0)]))\n"
            "with Trace(ae) as t:\n    ae.loss(np.ones((3, 6), np.float32)), ae.backward()\n"
            "print(page.page('one', [page.Single(t)], ae).wrong)\n")
    said = [subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True,
                           env={**os.environ, "NUMBA_DISABLE_JIT": off}, timeout=600).stdout for off in ("0", "1")]
    assert said[0] == "[]\n" and "encoder.0 (Dense): a wrong gradient" in said[1]


def test_a_page_without_a_backward_does_not_call_its_gradients_well():
    model, x = dense(), pictures(n=12).train_x / np.float32(255)
    with Trace(model) as t:
        model.loss(x)
    said, = told_by(page.page("one", [page.Single(t)], model).text)[0]["frames"]
    assert said["well"].startswith("no backward ran") and not said["flags"]


def test_a_parameter_that_did_not_move_has_no_ratio_and_one_that_left_zero_has_words():
    model, x = dense(), pictures(n=12).train_x / np.float32(255)
    model.encoder.layers[1].b.value[...] = 0
    with Trace(model) as u:
        model.loss(x)
        model.backward()
    t = traced(model, x)
    for trace, said in ((t, "from 0"), (u, None)):
        told, _ = told_by(page.page("one", [page.Single(trace)], trace.model).text)
        bias = next(p for row in told["frames"][0]["rows"] for p in row["params"] if p[0] == "encoder.1.b")
        assert bias[1] == 0 and bias[2] > 0 and bias[3] == said


def test_a_parameter_or_its_gradient_that_is_no_number_is_said_in_words():
    model, x = dense(), pictures(n=12).train_x / np.float32(255)
    model.grad[...] = np.nan  # of a step before, which nobody cleared
    with Trace(model) as t:
        model.loss(x)
        model.backward()
        model.encoder.layers[1].W.value[0, 0] = np.inf
    with np.errstate(all="ignore"):
        told, _ = told_by(page.page("one", [page.Single(t)], model).text)
    said = told["frames"][0]["rows"][1]["params"]
    assert [one[2:] for one in said] == [["not a number", "not a number"], ["not a number", None]]
    assert "whether zero_grad() was called" in told["frames"][0]["flags"][0]


def test_of_the_layers_equation_only_mathematics_is_shown():
    for case in cases():
        said = source.equation(case.make(np.random.default_rng(0)))
        assert said and not re.search(r"Raises|Source|>>>", said), case.name
    said = source.equation(Conv2d(1, 2, 3, rng=0))
    assert "y[n,i,j,o] = f(b[o] +" in said and "Backward: dz = f'(y) dy" in said and "Shapes: x (N, H, W, in)" in said


def test_the_lines_are_the_real_ones_of_the_class_that_defines_them():
    layer = Conv2d(1, 2, 3, activation="tanh", rng=0)
    found = source.code(layer)
    assert [part["name"] for part in found["forward"]] == ["Affine._forward", "Conv2d._apply", "Tanh.f"]
    assert [part["name"] for part in found["backward"]] == ["Affine._backward", "Conv2d._gradients", "Tanh.slope"]
    assert [part["name"] for part in found["textbook"]][:2] == ["conv2d_forward", "conv2d_backward"]
    assert {"im2col", "col2im"} <= {part["name"] for part in found["textbook"]}
    lines = inspect.getsource(Conv2d._gradients).splitlines()
    assert [line.strip() for line in found["backward"][1]["text"].splitlines()] == [line.strip() for line in lines]
    assert found["backward"][1]["text"].startswith("def _gradients(")
    first = inspect.getsourcelines(Conv2d._gradients)[1]
    assert found["backward"][1]["place"] == f"npae/layers/conv.py:{first}"
    for case in cases():
        parts = source.code(case.make(np.random.default_rng(0)))
        assert parts["forward"] and parts["backward"], case.name


def test_a_layer_of_ones_own_is_shown_with_its_lines_and_one_from_a_prompt_without():
    class Mine(Layer):
        """y = 3 x <&>"""

        def _forward(self, x):
            self.saved = True
            return 3 * x

        def _backward(self, dy, need_dx):
            return 3 * dy

    typed = {"Layer": Layer}
    exec("class Typed(Layer):\n    def _forward(self, x):\n        self.saved = 1\n        return x.copy()\n"
         "    def _backward(self, dy, need_dx):\n        return dy.copy()\n", typed)
    assert source.code(Mine())["forward"][0]["text"].endswith("return 3 * x")
    assert source.code(Mine())["forward"][0]["place"].startswith("tests/test_trace_page.py:")
    assert source.code(typed["Typed"]())["backward"][0]["text"] == "(its source lies in no file)"
    model = Autoencoder(Sequential([Mine(), Dense(6, 2, rng=0), typed["Typed"]()]), Sequential([Dense(2, 6, rng=0)]))
    t = traced(model, np.ones((3, 6), np.float32))
    text = page.page("<b>mine</b> & yours", [page.Single(t)], model).text
    assert "<b>mine" not in text and told_by(text)[0]["layers"][0]["equation"] == "y = 3 x <&>"


def test_pages_of_other_kinds_of_models_are_written_too():
    for make, shape in ((dense, (28, 28, 1)), (tied, (6, 9, 3)), (labelled, (28, 28, 1)), (picture_codes, (28, 28, 1))):
        model, dataset = make(), pictures(shape, 20)
        t = traced(model, dataset.train_x[:5] / np.float32(255), dataset.train_y[:5])
        told, _ = told_by(page.page("one", [page.Single(t)], model).text)
        assert [layer["name"] for layer in told["layers"]] == [row.name for row in t.rows]
        assert all(len(layer["check"]) == sum(1 + (p.value.ndim > 1) for p in row.layer.params)
                   for layer, row in zip(told["layers"], t.rows, strict=True))


def test_what_cannot_be_shown_is_told_in_a_sentence(tmp_path, monkeypatch):
    model = dense()
    with Trace(model) as t:
        pass
    with pytest.raises(ValueError, match="has seen no loss"):
        t.to_html(tmp_path / "a.html")
    with pytest.raises(ValueError, match=r"does not end in \.html"):
        t.to_html(tmp_path / "a.txt")
    t = traced(model, pictures(n=5).train_x / np.float32(255))
    assert t.to_html(tmp_path / "a.html") == tmp_path / "a.html" and (tmp_path / "a.html").stat().st_size > 50_000
    monkeypatch.setattr(page, "MOST_BYTES", 10_000)
    with pytest.raises(ValueError, match=r"the page would have 0\.\d MB with one picture and one channel a layer"):
        t.to_html(tmp_path / "b.html")
    assert not (tmp_path / "b.html").exists()


def test_a_trace_that_holds_no_numbers_has_a_page_all_the_same():
    t = of_nan()
    with np.errstate(all="ignore"):
        told, blob = told_by(page.page("one", [page.Single(t)], t.model).text)
    assert told["frames"][0]["terms"]["loss"] is None and told["frames"][0]["rows"][1]["y"][0] is None
    assert (blob == maps.BAD).any() and told["layers"][1]["check"][0]["plus"][0] is None


def test_what_is_told_of_a_batch_and_its_layers():
    t = of_recipe("conv-ae", 5, (8, 8, 1))
    told, _ = told_by(page.page("one", [page.Single(t)], t.model).text)
    assert told["batch"] == 5 and not told["series"] and [frame["step"] for frame in told["frames"]] == [1]
    assert told["layers"][told["code"] + 1]["name"] == "decoder.0"
    for layer, row, said in zip(told["layers"], t.rows, told["frames"][0]["rows"], strict=True):
        assert layer["size"] == "×".join(map(str, row.output_shape[1:]))
        assert [name for name, _ in layer["shapes"]] == ["x", "y", *(p.name[-1] for p in row.params)]
        assert said["ms"] == [1e3 * row.forward_seconds, 1e3 * row.backward_seconds]
        parts = [told["sources"][n]["name"] for half in ("forward", "backward", "textbook")
                 for n in layer["code"][half]]
        assert parts == [part["name"] for half in source.code(row.layer).values() for part in half]
    names = [told["sources"][n]["name"] for n in told["objective"]["code"]]
    assert names[:3] == [part["name"] for part in source.objective(t.model)["code"]][:3] and len(names) > 3
    told, _ = told_by(page.page("two", [session.Frame(k, t, t) for k in (3, 7)], t.model).text)
    assert told["series"] and [frame["step"] for frame in told["frames"]] == [3, 7]
    with Trace(t.model) as empty:
        pass
    for trace, shown in ((empty, t), (t, empty)):
        with pytest.raises(ValueError, match="has seen no loss"):
            page.page("one", [session.Frame(1, t, t), session.Frame(2, trace, shown)], t.model)


def test_grey_levels_are_rounded_and_kept_within_0_and_255():
    found = maps.grey(np.array([-0.5, 0, 0.2, 0.5, 0.999, 1, 2, np.nan]).reshape(1, 2, 4, 1))
    assert found.ravel().tolist() == [0, 0, 51, 128, 255, 255, 255, 0] and found.dtype == np.uint8


def test_of_a_long_series_fewer_pictures_are_shown_so_that_it_fits(monkeypatch):
    monkeypatch.setattr(page, "MOST_BYTES", 500_000)  # bars are flatter than digits, which do not fit into 3 MB
    model = of_recipe("conv-ae").model
    dataset = pictures(n=30)
    found = []
    for step in range(5):
        t = traced(model, dataset.train_x[:8] / np.float32(255))
        found.append(session.Frame(step + 1, t, t))
    text = page.page("series", found, model).text
    told, _ = told_by(text)
    assert len(text.encode()) <= 500_000 and 2 <= told["pictures"]["shape"][0] < 8
    assert max(m["y"][0][0] for m in told["frames"][0]["maps"]) == 16
