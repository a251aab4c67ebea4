"""The house has floors: a file imports only from a lower one, or from its own without a circle.
This test reads the imports of every file of npae, those inside functions too. A new room has to be entered below.
"""
import ast
from pathlib import Path

import pytest

HOUSE = Path(__file__).resolve().parent.parent / "npae"
FLOORS = {  # room (a file, or a folder with all that is in it) -> its floor
    **dict.fromkeys(("_version", "cache", "checks", "copying", "kernels", "params", "init", "losses", "penalties",
                     "corruption", "optim", "store", "data", "gradcheck"), 0),
    **dict.fromkeys(("layers", "interop"), 1),
    **dict.fromkeys(("nets", "models", "nonfinite"), 2),
    **dict.fromkeys(("train", "callbacks", "evaluate", "measures", "tables", "checkpoint", "canvas", "figures",
                     "settings", "recipes", "runs", "reconstruct", "explore", "trace", "lab"), 3),
    **dict.fromkeys(("cli", "__main__", "__init__"), 4),
}
WORDS = ("the ground floor", "the first floor", "the second floor", "the third floor", "the door")
FILES = sorted(HOUSE.rglob("*.py"))


def module_of(path):
    """npae/kernels/fast.py -> kernels.fast; a folder's __init__.py is the folder itself."""
    parts = path.relative_to(HOUSE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def floor_of(module):
    room = module.split(".")[0]
    assert room in FLOORS, f"npae/{room} stands on no floor: enter it in FLOORS of tests/test_floors.py"
    return FLOORS[room]


def only_types(node):
    """`if TYPE_CHECKING:` is read by type checkers, never run."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def statements(node):
    """Every import below this node that may run."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif only_types(child):
            for other in child.orelse:
                yield from statements(other)
        else:
            yield from statements(child)


def imports(source, modules=MODULES):
    """The modules of npae that a file imports, by name; a relative import is an error."""
    for statement in statements(ast.parse(source)):
        if isinstance(statement, ast.Import):
            names = [alias.name for alias in statement.names]
        else:
            assert statement.level == 0, f"line {statement.lineno}: write 'from npae...' and not 'from .'"
            names = [f"{statement.module}.{alias.name}" for alias in statement.names]
        for name in names:
            room, *path = name.split(".")
            if room == "npae":
                while path and ".".join(path) not in modules:
                    path.pop()  # npae.params.Param is a name in npae.params
                yield ".".join(path) or "__init__"


def edges():
    return {module: set(imports(path.read_text())) - {module} for module, path in MODULES.items()}


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_every_file_imports_only_from_its_own_floor_or_below(path):
    module = module_of(path)
    for other in imports(path.read_text()):
        assert floor_of(other) <= floor_of(module), (
            f"npae.{module} on {WORDS[floor_of(module)]} imports npae.{other} from {WORDS[floor_of(other)]}")


def circle(graph):
    """A list of modules that import each other in turn, or nothing."""
    done, path = set(), []

    def visit(module):
        if module in path:
            return [*path[path.index(module):], module]
        if module in done:
            return []
        path.append(module)
        found = next((c for c in map(visit, sorted(graph.get(module, ()))) if c), [])
        path.pop()
        done.add(module)
        return found

    return next((c for c in map(visit, sorted(graph)) if c), [])


def test_nowhere_do_imports_run_in_a_circle():
    found = circle(edges())
    assert not found, "imports run in a circle: " + " -> ".join(found)


def test_the_rooms_of_one_floor_do_not_run_in_a_circle():
    rooms = {}
    for module, others in edges().items():
        room = module.split(".")[0]
        rooms.setdefault(room, set()).update(other.split(".")[0] for other in others if other.split(".")[0] != room)
    found = circle(rooms)
    assert not found, "rooms import each other in a circle: " + " -> ".join(found)


def test_an_import_is_found_wherever_it_hides_and_a_circle_too():
    source = ("import numpy\nfrom typing import TYPE_CHECKING\nfrom npae.params import Param\n"
              "if TYPE_CHECKING:\n    import npae.cli\n"
              "def f():\n    if True:\n        from npae import layers as L, __version__\n"
              "        import npae.kernels.fast as fast\n")
    modules = {"params", "layers", "kernels", "kernels.fast", "cli"}
    assert list(imports(source, modules)) == ["params", "layers", "__init__", "kernels.fast"]
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"] and not circle({"a": {"b", "c"}, "b": {"c"}})
    with pytest.raises(AssertionError, match=r"not 'from \."):
        list(imports("from .base import Layer"))
    with pytest.raises(AssertionError, match="npae/cellar stands on no floor"):
        floor_of("cellar.wine")
