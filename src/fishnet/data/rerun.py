"""Guards against reading processes that run the user's script again. Torch-free."""

import multiprocessing


def refuse_rerun() -> None:
    """Exits a process that was started to read data but runs the user's script again.

    Where new processes start with a fresh interpreter (macOS, Windows, Python 3.14), each one imports the script.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SystemExit(
            "fishnet: each reading process runs this script again: put the call below "
            '`if __name__ == "__main__":`, or read with workers=0'
        )
