"""Check whether a nuScenes root is valid, and name every fault by table, token and remedy.

``report`` holds the results of a check. ``rows`` checks each table by itself. ``links`` checks the
references between tables. ``sensors`` and ``objects`` check whether the values are plausible.
``files`` checks the files on disk. ``run`` calls all checks.
"""
