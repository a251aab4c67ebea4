"""The bug zoo: mistakes that people make in backward passes and around them, each as a line or two of npae's own code.
Every file has its `BUGS`, and `NOT_HERE`: bugs of the literature that cannot be made in npae, with the reason.
"""
