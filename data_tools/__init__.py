"""nuScenes for the detector: info files of any root, and a small synthetic nuScenes from a seed."""
