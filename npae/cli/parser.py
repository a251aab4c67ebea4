"""What the command line takes: the commands, their arguments, and what each is for."""
from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

from npae.cli import commands


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see `{self.prog} --help`)\n")


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; the chosen command is `args.run`."""
    from npae._version import __version__

    door = Parser(prog="npae", description="Autoencoders from scratch in NumPy and Numba.")
    door.add_argument("--version", action="version", version=f"npae {__version__}")
    names = door.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)

    p = names.add_parser("train", help="train a recipe and write a run folder")
    p.add_argument("recipe", nargs="?", metavar="RECIPE", help="its name; `npae list` shows them")
    p.add_argument("--resume", metavar="RUN", help="go on with a run that was interrupted, to the same bits, instead "
                   "of a RECIPE")
    p.add_argument("--data", help="strokes (built in, the default), mnist, or the path of pictures")
    p.add_argument("--data-dir", metavar="DIR", help="where MNIST's files are")
    p.add_argument("--epochs", type=int, metavar="N", help="passes over the training pictures (default: the recipe's)")
    p.add_argument("--seed", type=int, metavar="S",
                   help="what all chance comes from: the same seed gives the same bits (default: 0)")
    p.add_argument("--threads", type=int, metavar="N", help="threads of the kernels; the numbers do not depend on it")
    p.add_argument("--save-every", type=float, metavar="SECONDS", help="between two checkpoints (default: 30); Ctrl-C "
                   "saves one too")
    p.add_argument("--out", metavar="DIR", help="the run folder (default: a new one under runs/)")
    p.add_argument("--set", action="append", default=[], metavar="key=value", dest="settings",
                   help="change a setting of the recipe; more of them may follow")
    p.set_defaults(run=commands.do_train)

    p = names.add_parser("eval", help="measure everything of a run on its test pictures")
    p.add_argument("folder", metavar="RUN", help="its folder")
    p.add_argument("--full", action="store_true", help="log-likelihood of all test pictures with 5,000 samples each, "
                   "instead of 1,000 with 1,000: an hour or so where the decoder is convolutional")
    p.add_argument("--json", action="store_true", help="print metrics.json instead of a table")
    p.set_defaults(run=commands.do_eval)

    p = names.add_parser("compare", help="lay the figures of runs side by side")
    p.add_argument("folders", nargs="+", metavar="RUN", help="their folders")
    p.add_argument("--markdown", action="store_true", help="as a table in Markdown")
    p.set_defaults(run=commands.do_compare)

    p = names.add_parser("figures", help="draw the figures of a run again")
    p.add_argument("folder", metavar="RUN", help="its folder")
    p.add_argument("--beside", metavar="RUN", help="of a conditional VAE: a plain one, for the sheet of classes")
    p.set_defaults(run=commands.do_figures)

    p = names.add_parser("reconstruct", help="encode and decode a picture of your own")
    p.add_argument("folder", metavar="RUN", help="its folder")
    p.add_argument("picture", metavar="PICTURE", help="a picture file: PNG, JPEG, ...")
    p.add_argument("--invert", action="store_true", help="for dark ink on white paper")
    p.add_argument("--label", type=int, metavar="K", help="what it shows, for a model that is told so")
    p.add_argument("--out", metavar="FILE", help="the picture beside its reconstruction "
                                                 "(default: PICTURE-reconstructed.png)")
    p.set_defaults(run=commands.do_reconstruct)

    p = names.add_parser("explore", help="move through a run's codes and see what its decoder draws")
    p.add_argument("folder", metavar="RUN", help="its folder")
    p.add_argument("--html", metavar="FILE", help="write a page for a browser (default: open a window with sliders)")
    p.set_defaults(run=commands.do_explore)

    p = names.add_parser("list", help="the recipes, or the settings of one")
    p.add_argument("recipe", nargs="?", metavar="RECIPE", help="its name (default: what there is)")
    p.set_defaults(run=commands.do_list)

    p = names.add_parser("gradcheck", help="check gradients against finite differences, and say what is wrong")
    p.add_argument("target", nargs="?", default="all", metavar="TARGET",
                   help="a layer, loss, penalty, model or recipe; 'my_layers.py:MyDense(5, 3)'; or all")
    p.add_argument("--method", default="richardson", metavar="M",
                   help="richardson (default), five-point, central, forward or complex: the gradient alone")
    p.add_argument("--fast", action="store_true", help="three random directions a parameter: the gradient alone")
    p.add_argument("--shape", metavar="N,...", help="shape of a batch, for your own class (default: found by trying)")
    p.add_argument("--plot", metavar="FILE", help="draw the V-curve, and the Taylor plot beside it (FILE-taylor.png)")
    p.add_argument("--json", metavar="FILE", help="write the reports as JSON")
    p.add_argument("--markdown", metavar="FILE", help="write the reports in Markdown")
    p.set_defaults(run=commands.do_gradcheck)

    p = names.add_parser("grade", help="grade layers that learners have written (demos/exercises); runs their code")
    p.add_argument("paths", nargs="+", metavar="FILE", help="a .py file, or a folder of them, which gives a table")
    p.add_argument("--json", metavar="FILE", help="write the grades with all hints")
    p.add_argument("--csv", metavar="FILE", help="write the table")
    p.add_argument("--seconds", type=float, default=60, metavar="S", help="end a submission then (default: 60)")
    p.set_defaults(run=commands.do_grade)

    p = names.add_parser("bughunt", help="find the bug in a layer, a loss or a model; or print a quiz")
    p.add_argument("room", nargs="?", metavar="LAYER", help="where: Dense, Bernoulli, VAE, ... (default: anywhere)")
    p.add_argument("--seed", type=int, metavar="S", help="what picks the bug (default: chance; it is printed)")
    p.add_argument("-n", type=int, metavar="N", dest="number", help="questions (default: 1, on a sheet 6)")
    p.add_argument("--sheet", metavar="FILE", help="write a quiz for a class (Markdown) instead of asking")
    p.add_argument("--answers", metavar="FILE", help="where its answers go (default: FILE-answers.md)")
    p.set_defaults(run=commands.do_bughunt)

    p = names.add_parser("data", help="what there is of a data set, and a sheet of its pictures")
    p.add_argument("name", nargs="?", default="strokes", metavar="DATA", help="strokes, mnist, or a path")
    p.add_argument("--data-dir", metavar="DIR", help="where MNIST's files are")
    p.add_argument("--out", metavar="FILE", help="the sheet (default: DATA-sheet.png)")
    p.set_defaults(run=commands.do_data)

    p = names.add_parser("trace", help="look at a training step layer by layer, forward and back")
    p.add_argument("what", metavar="RECIPE|RUN", help="a recipe's name, or the folder of a run")
    p.add_argument("--html", metavar="FILE", help="write a page for a browser: maps, source, finite differences")
    p.add_argument("--every", type=int, metavar="N", help="trace steps 1, 1 + N, 1 + 2 N, ..., 20 at most, of the "
                   "training from its beginning; the page gets a slider")
    p.add_argument("--steps", type=int, metavar="K", help="steps before the traced one (default: 10 of a recipe, 0 of "
                   "a run)")
    p.add_argument("--data", help="of a recipe: strokes (the default), mnist, or the path of pictures")
    p.add_argument("--data-dir", metavar="DIR", help="where MNIST's files are")
    p.add_argument("--seed", type=int, metavar="S", help="of a recipe: what all chance comes from (default: 0)")
    p.add_argument("--set", action="append", default=[], metavar="key=value", dest="settings",
                   help="change a setting of the recipe; more of them may follow")
    p.set_defaults(run=commands.do_trace)

    p = names.add_parser("explain", help="derive the backward pass of a layer, loss or penalty, with numbers")
    p.add_argument("layer", nargs="?", metavar="LAYER", help="its name: Dense, Conv2d, gaussian_kl, ... (default: what "
                   "there is)")
    p.add_argument("--shape", metavar="N,...", help="shape of the example's batch (default: a small one)")
    p.add_argument("--kernel", type=int, metavar="K", help="rows and columns of a window: of a convolution or pooling")
    p.add_argument("--stride", type=int, metavar="S", help="how far it moves")
    p.add_argument("--padding", metavar="P", help="same, valid, or a number of zeros")
    p.add_argument("--html", metavar="FILE", help="write a page for a browser, which prints well")
    p.set_defaults(run=commands.do_explain)
    return door


def one_setting_each(words: Sequence[str]) -> list[str]:
    """`--set a=1 b=2 RECIPE` as `--set a=1 --set b=2 RECIPE`, so that the recipe is not taken for a setting."""
    spread: list[str] = []
    setting = False
    for word in words:
        pair = "=" in word and not word.startswith("-")
        if setting and pair and spread[-1] != "--set":
            spread.append("--set")
        spread.append(word)
        setting = word == "--set" or (setting and pair)
    return spread
