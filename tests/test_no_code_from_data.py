"""Nothing in npae turns what stands in a data file into code: read in the source itself, of every file."""
import ast
from pathlib import Path

import pytest

HOUSE = Path(__file__).resolve().parent.parent / "npae"
FILES = sorted(HOUSE.rglob("*.py"))
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "runpy", "imp",
           "codeop", "yaml", "jsonpickle", "zipimport"}
BUILT_IN = {"eval", "exec", "compile", "__import__"}
IMPORTS = {"import_module", "spec_from_file_location", "module_from_spec", "exec_module", "run_path", "run_module"}
SHELLS = {"os.system", "os.popen", "pty.spawn"}

LEARNERS = ("lab/own.py", "lab/stages.py")
"""Run the learner's own program, the FILE.py of gradcheck and grade: that is what the two commands are for."""
ALLOWED = {  # (file, name): what becomes code there
    ("lab/planting.py", "import_module"): "npae's own modules, by the names in the zoo",
    ("lab/planting.py", "compile"): "npae's own source with a line of the zoo in it",
    ("kernels/kept.py", "pickle"): "compiled kernels, which are code, where the SHA-256 of all of it fits",
    ("lab/interpreted.py", "import_module"): "npae's kernels, by the names in the file",
    ("lab/interpreted.py", "compile"): "npae's kernels as Python reads them",
}


def dotted(node):
    """'np.load' of np.load."""
    return ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""


def named_here(call):
    """Whether the first argument is a text that begins with npae in the source itself."""
    first = call.args[0] if call.args else None
    if isinstance(first, ast.JoinedStr):
        first = first.values[0]
    return isinstance(first, ast.Constant) and str(first.value).startswith("npae.")


def findings(source):
    """(line, name) of all that could turn data into code."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            roots = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [
                f"{node.module}.{alias.name}" for alias in node.names]
            for root in roots:
                yield from ((node.lineno, part) for part in root.split(".") if part in MODULES)
        elif isinstance(node, ast.Call):
            name = dotted(node.func)
            last = name.rpartition(".")[2]
            safe = any(k.arg == "allow_pickle" and getattr(k.value, "value", None) is False for k in node.keywords)
            if name in ("np.load", "numpy.load") and not safe:
                yield node.lineno, "np.load"
            elif (last in IMPORTS and not named_here(node)) or name in SHELLS:
                yield node.lineno, last
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            if getattr(node.value, "value", 1) is not False:
                yield node.value.lineno, "allow_pickle"
        elif isinstance(node, ast.Name) and node.id in BUILT_IN and isinstance(node.ctx, ast.Load):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and dotted(node) in {f"builtins.{name}" for name in BUILT_IN}:
            yield node.lineno, node.attr


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_no_pickle_eval_exec_or_import_by_what_a_file_says(path):
    file = path.relative_to(HOUSE).as_posix()
    if file not in LEARNERS:
        strange = [f"npae/{file}:{line}: {name}" for line, name in findings(path.read_text())
                   if (file, name) not in ALLOWED]
        assert not strange, strange


def test_what_is_allowed_is_there():
    """An entry whose line has gone would let the next one in."""
    for file, name in ALLOWED:
        assert name in {name for _, name in findings((HOUSE / file).read_text())}, (file, name)
    for file in LEARNERS:
        assert list(findings((HOUSE / file).read_text())), file


def test_no_file_that_reads_data_imports_one_that_runs_programs():
    """own.py is reached from gradcheck's targets alone, stages.py from the grader."""
    runners = {f"npae.{file.removesuffix('.py').replace('/', '.')}" for file in LEARNERS}
    met = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                imported = {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
                met |= {(path.relative_to(HOUSE).as_posix(), name) for name in imported & runners}
    assert met <= {("lab/gradients.py", "npae.lab.own"), ("lab/gradebook.py", "npae.lab.stages"),
                   ("lab/grade.py", "npae.lab.stages")}, met


@pytest.mark.parametrize(("source", "what"), [
    ("import pickle", "pickle"), ("from x import y\nimport x.dill", "dill"), ("import numpy, marshal", "marshal"),
    ("from numpy.compat import pickle", "pickle"), ("def f(s): return eval(s)", "eval"), ("exec(s)", "exec"),
    ("f = eval", "eval"), ("list(map(eval, c))", "eval"), ("__import__(s)", "__import__"),
    ("import importlib\nimportlib.import_module(x)", "import_module"), ("import_module('os')", "import_module"),
    ("import_module(f'{x}.npae')", "import_module"), ("compile(text, 'x', 'exec')", "compile"),
    ("import builtins\nbuiltins.eval(x)", "eval"), ("os.system('x')", "system"), ("np.load(p)", "np.load"),
    ("np.load(p, allow_pickle=True)", "allow_pickle"), ("np.load(p, allow_pickle=flag)", "np.load"),
    ("np.lib.format.read_array(f, allow_pickle=True)", "allow_pickle")])
def test_each_way_is_seen(source, what):
    assert what in {name for _, name in findings(source)}


@pytest.mark.parametrize("source", ["re.compile('x')", "np.load(p, allow_pickle=False)", "model.eval()",
                                    "json.loads(t)", "evaluate(x)", "import_module(f'npae.lab.{name}')",
                                    "door.compile(kinds)"])
def test_what_only_looks_like_one_is_not(source):
    assert not list(findings(source))
