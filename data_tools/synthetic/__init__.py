"""A synthetic nuScenes: seeded drives through made places, written as v1.0 tables.

Images and lidar files are rendered by ray casting. The modules:

- ``rig``: where the sensors sit. - ``shapes``: how things are built. - ``vehicles``, ``people`` and
``roadside``: what things are built of. - ``catalogue``: the makes of the ten classes. - ``layouts``
and ``bands``: where drives lead. - ``drives``: who stands and moves where. - ``light``: the
weather. - ``render``: what falls on the sensors. - ``ground``: the surface of the road. -
``camera``: from light to image file. - ``presets``: how hard a dataset is. - ``tables``: how
nuScenes writes a drive down. - ``dataset``: any number of drives.

Frames: *road* (x along the road, y left, z up, metres), *ego*, *sensor* (cameras: x right, y down,
z forward) and *global*. The global frame is the road frame turned and moved as the drive says.
"""
