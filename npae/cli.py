"""The door for the terminal: `npae COMMAND`, or `python -m npae COMMAND`.
A wrong argument, a missing file, a wrong shape is one sentence and exit status 2; a wrong gradient is exit status 1.
"""
from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import NoReturn


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see `{self.prog} --help`)\n")


def _parser() -> argparse.ArgumentParser:
    from npae._version import __version__

    parser = _Parser(prog="npae", description="Autoencoders from scratch in NumPy and Numba.")
    parser.add_argument("--version", action="version", version=f"npae {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    p = commands.add_parser("train", help="train a recipe and write a run folder")
    p.add_argument("recipe", metavar="RECIPE", help="its name; `npae list` shows them")
    p.add_argument("--data", default="strokes", help="strokes (built in), mnist, or the path of pictures")
    p.add_argument("--data-dir", metavar="DIR", help="where MNIST's files are")
    p.add_argument("--epochs", type=int, metavar="N", help="passes over the training pictures (default: the recipe's)")
    p.add_argument("--seed", type=int, default=0, metavar="S",
                   help="what all chance comes from: the same seed gives the same bits (default: 0)")
    p.add_argument("--threads", type=int, metavar="N", help="threads of the kernels; the numbers do not depend on it")
    p.add_argument("--out", metavar="DIR", help="the run folder (default: a new one under runs/)")
    p.add_argument("--set", action="append", default=[], metavar="key=value", dest="settings",
                   help="change a setting of the recipe; more of them may follow")
    p.set_defaults(run=_train)

    p = commands.add_parser("eval", help="measure everything of a run on its test pictures")
    p.add_argument("folder", metavar="RUN", help="its folder")
    p.add_argument("--full", action="store_true", help="log-likelihood of all test pictures with 5,000 samples each, "
                   "instead of 1,000 with 1,000: an hour or so where the decoder is convolutional")
    p.add_argument("--json", action="store_true", help="print metrics.json instead of a table")
    p.set_defaults(run=_eval)

    p = commands.add_parser("compare", help="lay the figures of runs side by side")
    p.add_argument("folders", nargs="+", metavar="RUN", help="their folders")
    p.add_argument("--markdown", action="store_true", help="as a table in Markdown")
    p.set_defaults(run=_compare)

    p = commands.add_parser("figures", help="draw the figures of a run again")
    p.add_argument("folder", metavar="RUN", help="its folder")
    p.add_argument("--beside", metavar="RUN", help="of a conditional VAE: a plain one, for the sheet of classes")
    p.set_defaults(run=_figures)

    p = commands.add_parser("reconstruct", help="encode and decode a picture of your own")
    p.add_argument("folder", metavar="RUN", help="its folder")
    p.add_argument("picture", metavar="PICTURE", help="a picture file: PNG, JPEG, ...")
    p.add_argument("--invert", action="store_true", help="for dark ink on white paper")
    p.add_argument("--label", type=int, metavar="K", help="what it shows, for a model that is told so")
    p.add_argument("--out", metavar="FILE", help="the picture beside its reconstruction "
                                                 "(default: PICTURE-reconstructed.png)")
    p.set_defaults(run=_reconstruct)

    p = commands.add_parser("explore", help="move through a run's codes and see what its decoder draws")
    p.add_argument("folder", metavar="RUN", help="its folder")
    p.add_argument("--html", metavar="FILE", help="write a page for a browser (default: open a window with sliders)")
    p.set_defaults(run=_explore)

    p = commands.add_parser("list", help="the recipes, or the settings of one")
    p.add_argument("recipe", nargs="?", metavar="RECIPE", help="its name (default: what there is)")
    p.set_defaults(run=_list)

    p = commands.add_parser("gradcheck", help="check gradients against finite differences, and say what is wrong")
    p.add_argument("target", nargs="?", default="all", metavar="TARGET",
                   help="a layer, loss, penalty, model or recipe; 'my_layers.py:MyDense(5, 3)'; or all")
    p.add_argument("--method", default="richardson", metavar="M",
                   help="richardson (default), five-point, central, forward or complex: the gradient alone")
    p.add_argument("--fast", action="store_true", help="three random directions a parameter: the gradient alone")
    p.add_argument("--shape", metavar="N,...", help="shape of a batch, for your own class (default: found by trying)")
    p.add_argument("--plot", metavar="FILE", help="draw the V-curve, and the Taylor plot beside it (FILE-taylor.png)")
    p.add_argument("--json", metavar="FILE", help="write the reports as JSON")
    p.add_argument("--markdown", metavar="FILE", help="write the reports in Markdown")
    p.set_defaults(run=_gradcheck)

    p = commands.add_parser("grade", help="grade layers that learners have written (demos/exercises); runs their code")
    p.add_argument("paths", nargs="+", metavar="FILE", help="a .py file, or a folder of them, which gives a table")
    p.add_argument("--json", metavar="FILE", help="write the grades with all hints")
    p.add_argument("--csv", metavar="FILE", help="write the table")
    p.add_argument("--seconds", type=float, default=60, metavar="S", help="end a submission then (default: 60)")
    p.set_defaults(run=_grade)

    p = commands.add_parser("bughunt", help="find the bug in a layer, a loss or a model; or print a quiz")
    p.add_argument("room", nargs="?", metavar="LAYER", help="where: Dense, Bernoulli, VAE, ... (default: anywhere)")
    p.add_argument("--seed", type=int, metavar="S", help="what picks the bug (default: chance; it is printed)")
    p.add_argument("-n", type=int, metavar="N", dest="number", help="questions (default: 1, on a sheet 6)")
    p.add_argument("--sheet", metavar="FILE", help="write a quiz for a class (Markdown) instead of asking")
    p.add_argument("--answers", metavar="FILE", help="where its answers go (default: FILE-answers.md)")
    p.set_defaults(run=_bughunt)

    p = commands.add_parser("data", help="what there is of a data set, and a sheet of its pictures")
    p.add_argument("name", nargs="?", default="strokes", metavar="DATA", help="strokes, mnist, or a path")
    p.add_argument("--data-dir", metavar="DIR", help="where MNIST's files are")
    p.add_argument("--out", metavar="FILE", help="the sheet (default: DATA-sheet.png)")
    p.set_defaults(run=_data)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status."""
    try:
        args = _parser().parse_args(_one_setting_each(sys.argv[1:] if argv is None else argv))
        status = args.run(args)
        sys.stdout.flush()  # here, where a reader that has gone away is no surprise
        return status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes when it ends
        return 141  # 128 + SIGPIPE, as a shell has it
    except (ValueError, OSError) as error:
        print(f"npae: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except MemoryError as error:
        print(f"npae: there is not enough memory ({error}): use smaller settings", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("npae: interrupted", file=sys.stderr)
        return 130


def _one_setting_each(words: Sequence[str]) -> list[str]:
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


def _train(args: argparse.Namespace) -> int:
    from npae import kernels, runs

    given = {} if args.epochs is None else {"epochs": str(args.epochs)}
    for pair in args.settings:
        key, sign, value = pair.partition("=")
        if not sign:
            raise ValueError(f"--set takes key=value, got {pair!r}")
        if given.setdefault(key, value) != value:
            raise ValueError(f"{key} is given as {given[key]} and as {value}: give it once")
    if args.seed < 0:
        raise ValueError(f"--seed must be at least 0, got {args.seed}")
    if args.threads is not None:
        kernels.set_threads(args.threads)
    print(runs.run(args.recipe, data=args.data, data_dir=args.data_dir, seed=args.seed, out=args.out, given=given))
    return 0


def _eval(args: argparse.Namespace) -> int:
    from npae import runs, tables

    metrics = runs.evaluate_run(args.folder, full=args.full, progress=sys.stderr.isatty())
    print(json.dumps(metrics, indent=2) if args.json else tables.report(metrics))
    return 0


def _compare(args: argparse.Namespace) -> int:
    from npae import runs

    print(runs.compare(args.folders, markdown=args.markdown))
    return 0


def _figures(args: argparse.Namespace) -> int:
    from npae import runs

    print("\n".join(map(str, runs.draw_run(args.folder, args.beside))))
    return 0


def _reconstruct(args: argparse.Namespace) -> int:
    from npae import reconstruct

    print("\n".join(reconstruct.picture(args.folder, args.picture, out=args.out, invert=args.invert,
                                        label=args.label)))
    return 0


def _explore(args: argparse.Namespace) -> int:
    from npae import explore

    if args.html is None:
        explore.open_window(args.folder)
    else:
        print(explore.write_run(args.folder, args.html))
    return 0


def _list(args: argparse.Namespace) -> int:
    from npae import recipes

    if args.recipe is None:
        width = max(map(len, recipes.RECIPES))
        for recipe in recipes.RECIPES.values():
            print(f"{recipe.name:<{width}}  {recipe.summary}  [{recipe.equation}]")
        print("`npae list RECIPE` shows its settings, which `npae train RECIPE --set key=value` changes")
        return 0
    recipe = recipes.get(args.recipe)
    settings, _ = recipe.resolve({})
    print(f"{recipe.name}: {recipe.summary}\n    {recipe.equation}")
    for key, setting in recipe.settings.items():
        choices = f" ({', '.join(setting.choices)})" if setting.choices else ""
        value = "" if settings[key] is None else settings[key]
        print(f"    {key + '=' + str(value):<22} {setting.help}{choices}")
    return 0


def _gradcheck(args: argparse.Namespace) -> int:
    import npae.lab.gradients as gradients
    from npae import store

    start, found = time.perf_counter(), {}
    args.target = gradients.called(args.target)
    if args.target == "all" and args.method == "richardson" and not args.fast:
        print(f"all that npae has, {gradients.number()} reports, which takes minutes; `npae gradcheck Dense` takes one "
              "name alone", flush=True)
    for name, report in gradients.reports(args.target, args.method, args.fast, _shape(args.shape)):
        found[name] = report
        if args.target == "all" and report.ok:
            print(f"ok  {name}: {gradients.line(report)}", flush=True)
        else:
            print(f"{name}\n{report}\n", flush=True)
    wrong = [name for name, report in found.items() if not report.ok]
    seconds = time.perf_counter() - start
    some = f"{len(wrong)} {'is' if len(wrong) == 1 else 'are'} wrong: {'; '.join(wrong)}"
    verdict = some if wrong else "every gradient is right"
    print(f"{len(found)} report{'s' * (len(found) != 1)} in {seconds:.0f} s: {verdict}")
    if args.json is not None:
        store.write_json(args.json, {name: report.to_dict() for name, report in found.items()})
    if args.markdown is not None:
        store.write_text(args.markdown, "\n".join(report.to_markdown() for report in found.values()))
    if args.plot is not None and not any(report.rows for report in found.values()):
        print(f"nothing is drawn: {args.target} does not run")
    elif args.plot is not None:
        print("\n".join(map(str, gradients.plot(args.target, args.plot, _shape(args.shape)))))
    return 1 if wrong else 0


def _shape(text: str | None) -> tuple[int, ...] | None:
    """"4,5" -> (4, 5)"""
    if text is None:
        return None
    sizes = text.strip("()[] ").split(",")
    if not all(size.strip().isdigit() and int(size) for size in sizes if size.strip()):
        raise ValueError(f"--shape takes whole numbers above 0 with commas, such as 4,5, got {text!r}")
    return tuple(int(size) for size in sizes if size.strip())


def _grade(args: argparse.Namespace) -> int:
    from npae import store
    from npae.lab import grade, gradebook

    grades = grade.grade(args.paths, seconds=args.seconds)
    if any(os.path.isdir(path) for path in args.paths):
        print(gradebook.table(grades))
    else:
        print("\n\n".join(map(gradebook.sheet, grades)))
    if args.json is not None:
        store.write_json(args.json, gradebook.as_json(grades))
    if args.csv is not None:
        store.write_text(args.csv, gradebook.as_csv(grades))
    return 0 if all(g.ok for g in grades) else 1


def _bughunt(args: argparse.Namespace) -> int:
    import secrets

    from npae.lab import bughunt, quiz, talk

    if args.room is not None:
        args.room = bughunt.room_called(args.room)
    seed = secrets.randbelow(10_000) if args.seed is None else args.seed
    again = " ".join(["npae bughunt", *([args.room] if args.room else []), "--seed", f"{seed}"])
    if args.sheet is not None:
        print("\n".join(quiz.write(args.room, seed, args.number, args.sheet, args.answers, again)))
        return 0
    if args.answers is not None:
        raise ValueError("--answers goes with --sheet, which says where the questions go")
    if args.seed is None:
        print(f"the same hunt again: {again}")
    return 0 if talk.rounds(args.room, seed, 1 if args.number is None else args.number, input, print) else 1


def _data(args: argparse.Namespace) -> int:
    from npae import data, runs

    head, *lines = data.describe(args.name, args.data_dir)
    print("\n".join([head, *lines]))
    if "downloaded on first use" in head and not all("verified" in line for line in lines):
        print("nothing is drawn, and nothing was downloaded: `npae train RECIPE --data mnist` does that")
        return 0
    path = runs.sheet(args.name, args.data_dir, args.out or f"{data.short_name(args.name)}-sheet.png")
    print(f"a sheet of pictures: {path}")
    return 0
