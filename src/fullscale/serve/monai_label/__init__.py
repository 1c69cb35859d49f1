"""The protocol of MONAI Label: what the plugins of 3D Slicer and OHIF ask of a server.

Written from what the clients send and read. A case is an image there.
"""
