"""Automatic mutants of npae's own source: does the test suite notice when one sign, one axis, one `.T` is wrong?

    python -m tests.mutation                       all mutants of the NumPy and Python code that have no result yet
    python -m tests.mutation --fast                those of the compiled kernels: a fixed choice, each compiled anew
    python -m tests.mutation --only losses.py      of the files whose path contains this
    python -m tests.mutation --again               also those that survived (after new tests)
    python -m tests.mutation --control             edits that change nothing: all have to survive
    python -m tests.mutation --list                the ids that have no result yet
    python -m tests.mutation --report              a table, and every survivor that is not explained
    python -m tests.mutation --show ID             the mutant as a diff

Results stand in build/mutation/results.jsonl (--results), a line each; a run that was stopped goes on where it was.
Each mutant meets the tests that run its line, the quickest and the latest killers first; --jobs of them at a time.
What runs at import time alone (a class body, a table) is changed afterwards, in the module or class that has it.
`operators` makes the mutants from the syntax tree, `planted` puts one into the running process, `workers` runs the
tests of one after the other in forked processes, and `survivors.md` tells why those that live on are no mistakes.
"""
