"""Other people's data become nuScenes roots.

``frames`` is the way in: one JSON file that says what images show. ``root`` writes the root.
``kitti`` and ``astyx`` make the content of such a file from the two datasets' own layouts.
"""
