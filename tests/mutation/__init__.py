"""Automatic mutants of npae's own source: does the test suite notice when one sign, one axis, one `.T` is wrong?

    python -m tests.mutation                       all mutants of the NumPy and Python code that have no result yet
    python -m tests.mutation --fast                those of the compiled kernels: a fixed choice, each compiled anew
    python -m tests.mutation --only losses.py      of the files whose path contains this
    python -m tests.mutation --list | --report     the mutants without results, the table | what survived so far
    python -m tests.mutation --show ID             the mutant as a diff
    python -m tests.mutation --again               also those that survived (after new tests)

Results stand in a JSON-lines file (--results), one line a mutant; a run that was stopped goes on where it was.
`operators` makes the mutants from the syntax tree, `planted` puts one into the running process, `workers` runs the
tests of one after the other in forked processes, and `survivors.md` tells why those that live on are no mistakes.
"""
