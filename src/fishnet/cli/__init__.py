"""The command line: ``fishnet VERB ...``. Each verb is one file; heavy imports happen inside the verb."""

from fishnet.cli.app import main, run

__all__ = ["main", "run"]
