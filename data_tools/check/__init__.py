"""Is a nuScenes root what it should be? Everything that is wrong, by table, token and remedy.

``report`` is what a check finds. ``rows`` looks at the tables one by one, ``links`` at what they
say of each other, ``sensors`` and ``objects`` at whether the world can be like that, and ``files``
at the disk. ``run`` calls them all.
"""
