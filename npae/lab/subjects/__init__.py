"""Everything in npae that can be checked, by name, each with the whole protocol that fits it.
Every file has its `SUBJECTS`: name -> check(kernels) -> Report.
"""
