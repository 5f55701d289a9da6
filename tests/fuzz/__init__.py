"""Hostile input: seeded cases for every reader and every public function, each of which must end in an answer or in an
error of the documented kinds with its three parts.

A case is named by its target and its number, ``npz:123``, and is made from nothing else, so that it can be made again:

    python -m tests.fuzz --case npz:123          one case, with its traceback
    python -m tests.fuzz --minutes 30            all of them, with a table (``make fuzz``)
"""
