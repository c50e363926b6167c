"""A synthetic nuScenes: seeded drives through made places, rendered by ray casting, written as v1.0
tables.

``rig`` says where the sensors sit; ``shapes`` how things are built, ``vehicles``, ``people`` and
``roadside`` of what, ``catalogue`` which makes of the ten classes there are; ``layouts`` where
drives lead, ``drives`` who stands and moves where, ``light`` in which weather; ``render`` what
falls on the sensors, ``ground`` on the road's surface, ``camera`` what becomes of it; ``presets``
how hard all that is; ``tables`` how nuScenes writes it down, ``dataset`` any number of them.
Frames: *road* (x along the road, y left, z up, metres), *ego*, *sensor* (cameras: x right, y down,
z forward) and *global*, which is the road turned and moved as the drive says.
"""
