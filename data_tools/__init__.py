"""nuScenes as the detector wants it: infos from any root, and a small synthetic nuScenes made from
a seed.
"""
