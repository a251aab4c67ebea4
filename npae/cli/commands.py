"""The commands: each takes its arguments, does its work, and returns the exit status."""
from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time


def do_train(args: argparse.Namespace) -> int:
    from npae import kernels, runs

    if args.save_every is None:
        args.save_every = runs.SAVE_EVERY
    if not args.save_every >= 0:
        raise ValueError(f"--save-every must be at least 0 seconds, got {args.save_every}")
    if args.threads is not None:
        kernels.set_threads(args.threads)
    print(_begin(args) if args.resume is None else _go_on(args))
    return 0


def _begin(args: argparse.Namespace) -> str:
    from npae import runs

    given, seed = _given(args), 0 if args.seed is None else args.seed
    if args.recipe is None:
        raise ValueError("npae train needs a RECIPE (`npae list` shows them), or --resume RUN")
    if seed < 0:
        raise ValueError(f"--seed must be at least 0, got {seed}")
    return runs.run(args.recipe, data=args.data or "strokes", data_dir=args.data_dir, seed=seed, out=args.out,
                    given=given, save_every=args.save_every)


def _go_on(args: argparse.Namespace) -> str:
    from npae import runs

    beside = {"RECIPE": args.recipe, "--data": args.data, "--epochs": args.epochs, "--seed": args.seed,
              "--out": args.out, "--set": args.settings or None}
    if more := [name for name, value in beside.items() if value is not None]:
        raise ValueError(f"--resume goes on with what {args.resume} was given: leave {', '.join(more)} out")
    return runs.resume(args.resume, data_dir=args.data_dir, save_every=args.save_every)


def _given(args: argparse.Namespace) -> dict[str, str]:
    """The settings that were given, as text."""
    given = {} if getattr(args, "epochs", None) is None else {"epochs": str(args.epochs)}
    for pair in args.settings:
        key, sign, value = pair.partition("=")
        if not sign:
            raise ValueError(f"--set takes key=value, got {pair!r}")
        if given.setdefault(key, value) != value:
            raise ValueError(f"{key} is given as {given[key]} and as {value}: give it once")
    return given


def do_eval(args: argparse.Namespace) -> int:
    from npae import runs, tables

    metrics = runs.evaluate_run(args.folder, full=args.full, progress=sys.stderr.isatty())
    print(json.dumps(metrics, indent=2) if args.json else tables.report(metrics))
    return 0


def do_compare(args: argparse.Namespace) -> int:
    from npae import runs

    print(runs.compare(args.folders, markdown=args.markdown))
    return 0


def do_figures(args: argparse.Namespace) -> int:
    from npae import runs

    print("\n".join(map(str, runs.draw_run(args.folder, args.beside))))
    return 0


def do_reconstruct(args: argparse.Namespace) -> int:
    from npae import reconstruct

    print("\n".join(reconstruct.picture(args.folder, args.picture, out=args.out, invert=args.invert,
                                        label=args.label)))
    return 0


def do_explore(args: argparse.Namespace) -> int:
    from npae import explore

    if args.html is None:
        explore.open_window(args.folder)
    else:
        print(explore.write_run(args.folder, args.html))
    return 0


def do_list(args: argparse.Namespace) -> int:
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


def do_gradcheck(args: argparse.Namespace) -> int:
    import npae.lab.gradients as gradients
    from npae import figures, store

    for path in filter(None, (args.json, args.markdown, args.plot)):
        store.check_target(path)
    if args.plot is not None:
        figures.check_png(args.plot)
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


def do_grade(args: argparse.Namespace) -> int:
    from npae import store
    from npae.lab import grade, gradebook

    for path in filter(None, (args.json, args.csv)):
        store.check_target(path)
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


def do_bughunt(args: argparse.Namespace) -> int:
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


def do_data(args: argparse.Namespace) -> int:
    from npae import data, runs

    head, *lines = data.describe(args.name, args.data_dir)
    print("\n".join([head, *lines]))
    if "downloaded on first use" in head and not all("verified" in line for line in lines):
        print("nothing is drawn, and nothing was downloaded: `npae train RECIPE --data mnist` does that")
        return 0
    path = runs.sheet(args.name, args.data_dir, args.out or f"{data.short_name(args.name)}-sheet.png")
    print(f"a sheet of pictures: {path}")
    return 0


def do_trace(args: argparse.Namespace) -> int:
    from npae.trace import command

    for line in command.lines(args.what, html=args.html, every=args.every, steps=args.steps, data=args.data,
                              data_dir=args.data_dir, seed=args.seed, given=_given(args)):
        print(line)
    return 0


def do_explain(args: argparse.Namespace) -> int:
    from npae.lab import explain

    shape = _shape(args.shape)
    padding = int(args.padding) if (args.padding or "").isdecimal() else args.padding
    window = {"kernel": args.kernel, "stride": args.stride, "padding": padding}
    if args.layer is None:
        if {shape, args.html, *window.values()} != {None}:
            raise ValueError("--shape, --kernel, --stride, --padding and --html belong to a LAYER: name one, "
                             "`npae explain` lists them")
        print(explain.contents())
        return 0
    found = explain.explanation(args.layer, shape, **window)
    width = min(100, max(72, shutil.get_terminal_size((100, 24)).columns))
    print(found.to_text(width) if args.html is None else explain.write(found, args.html))
    return 0 if found.ok else 1
