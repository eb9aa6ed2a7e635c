"""Measures how fast models run on this machine, by engine. Processes take turns, so that conditions are the same.

plan.py holds the settings, engines.py the step that is timed, child.py the process around it, turns.py lets the
processes take turns, measured.py holds the results, drawing.py draws them; run.py puts all of it together. A process
imports no more than its engine needs, so that its memory is that engine's.
"""
