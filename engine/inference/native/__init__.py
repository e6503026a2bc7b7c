"""Passes through a model in C, built for the processor at hand by the C compiler that is there: what torch does in some
dozens of calls for each block, in one for the whole pass. Where there is no compiler, torch does it.
"""
