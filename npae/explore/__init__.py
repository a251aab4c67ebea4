"""A latent explorer: one page that runs the decoder in the browser, or a window with sliders.
The page needs no network and no framework: config, weights, test pictures and a small engine stand in it.
"""
from __future__ import annotations

import shlex
from pathlib import Path

from npae import runs, store
from npae.explore.codes import ranges, test_codes
from npae.explore.web import page
from npae.explore.window import NO_WINDOW, sliders

__all__ = ["open_window", "page", "ranges", "sliders", "test_codes", "write_run"]


def write_run(folder: str | Path, path: str | Path) -> str:
    """Write the page of a run folder; the sentence that says where it is.

    Raises ValueError: a path that does not end in .html; a model that the page cannot run (see `page`).
    """
    if Path(path).suffix.lower() != ".html":
        raise ValueError(f"the explorer is a web page, and {path} does not end in .html: choose another --html")
    model, dataset, config = runs.load(folder)
    text = page(model, dataset, recipe=config["recipe"], figure=_test_figure(Path(folder)),
                binarize=config["settings"]["binarize"])
    store.write_text(path, text)
    return f"the explorer is in {path} ({len(text.encode()) / 1e6:.1f} MB): open it in a browser"


def open_window(folder: str | Path) -> None:
    """Show a run's decoder with its sliders in a window, until it is closed.

    Raises ValueError: no display, or no toolkit that Matplotlib could open a window with.
    """
    import matplotlib.pyplot as plt

    model, dataset, config = runs.load(folder)
    _, _, z = test_codes(model, dataset, config["settings"]["binarize"])
    try:
        figure = plt.figure(f"{config['recipe']}, {dataset.name}")
    except ImportError:  # a backend that is named, and that needs a display
        backend = str(plt.rcParams["backend"])
    else:
        backend = plt.get_backend()
        if backend.lower() not in NO_WINDOW:
            kept = sliders(model, z, figure)  # a widget that nobody holds is dead
            plt.show()
            del kept
            return
        plt.close(figure)
    raise ValueError(f"no window can be opened here (Matplotlib's backend is {backend}): write a page instead, "
                     f"with `npae explore {shlex.quote(str(folder))} --html FILE`")


def _test_figure(folder: Path) -> str:
    """What the run reached on its test pictures, with units; empty where it was not measured."""
    if not (folder / "metrics.json").is_file():
        return ""
    test = runs.metrics_of(folder)["test"]
    said = []
    for key, what in (("elbo", "ELBO"), ("cross_entropy_bound", "minus cross-entropy of grey pixels and KL")):
        if key in test:
            said.append(f"{what} {test[key]:.2f} nats per image".replace(" -", " \N{MINUS SIGN}"))
    if "mse" in test:
        said.append(f"reconstruction error {test['mse']:.5f} squared grey levels per pixel")
    return "; ".join(said)
