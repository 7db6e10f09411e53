"""One module a user action: project path and parameters in, result out.

Each module of one action has a function `run` for it (``predict.run``, ``link.run``); modules of
several actions name each (``new.move_stack``, ``model_files.import_model``). All take a `Job` as
``job`` and return a value with ``summary()``; none takes a live layer, so that the window, the
command line, a process of its own and a dask worker call the same function.
"""
