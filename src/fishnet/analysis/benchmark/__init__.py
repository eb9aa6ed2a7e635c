"""Measures how fast models run on this machine, by engine. Processes take turns, so that conditions are the same.

plan.py has the settings, engines.py the step that is timed, and child.py the process around this step. turns.py lets
the processes take turns, measured.py has the results, and drawing.py draws them. run.py puts all of it together. A
process imports no more than its engine needs, so that only the engine's memory is measured.
"""
