"""The lab: what learners and tests share to take the library apart and put it to the test.
The catalogue of cases is here: every layer with shapes that let no mistake pass.
"""
