"""A synthetic nuScenes: seeded drives through a street of simple shapes, rendered by ray casting, written as v1.0 tables.

``rig`` says where the sensors sit, ``shapes`` what the ten classes look like, ``drives`` who stands and moves where, ``render``
what the sensors see, ``tables`` how nuScenes writes it down. Frames: *road* (x along the road, y left, z up, metres), *ego*, *sensor*
(cameras: x right, y down, z forward) and *global*, which is the road turned and moved as the scene says.
"""
