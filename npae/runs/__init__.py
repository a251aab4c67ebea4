"""A run: a recipe trained on data, measured on the test pictures, and laid down in a folder.
The folder holds config.json, model.npz, history.csv, metrics.json and figures; eval and figures read it again. Until
all of them are there it also holds checkpoint.npz, from which an interrupted run goes on.
"""
from npae.runs.folder import Config, load
from npae.runs.results import compare, draw, draw_run, evaluate_run, measure, metrics_of, sheet
from npae.runs.start import SAVE_EVERY, fit, prepared, resume, run

__all__ = ["SAVE_EVERY", "Config", "compare", "draw", "draw_run", "evaluate_run", "fit", "load", "measure",
           "metrics_of", "prepared", "resume", "run", "sheet"]
