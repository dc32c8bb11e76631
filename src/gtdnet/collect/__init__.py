"""Labelled clips, cut by keyboard from a camera or a video, into a folder for each class."""
