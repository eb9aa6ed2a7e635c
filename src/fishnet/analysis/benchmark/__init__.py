"""How fast a model is here, by every engine that runs it: processes that take turns, so that all have a fair share.

plan.py says what is measured, engines.py makes the step that is timed, child.py is the process around it, turns.py has
the processes take turns, measured.py is what came of it, drawing.py its image; run.py puts them together. A process
imports no more than its engine needs, so that its memory is that engine's.
"""
