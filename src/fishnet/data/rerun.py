"""Processes that read data, and the user's script that they may run again. Torch-free."""

import multiprocessing


def refuse_rerun() -> None:
    """Ends a process that runs the user's script again only because it was started to read data.

    Where new processes begin with a fresh interpreter (macOS, Windows, Python 3.14), each one imports the script.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SystemExit(
            "fishnet: each reading process runs this script again: put the call below "
            '`if __name__ == "__main__":`, or read with workers=0'
        )
