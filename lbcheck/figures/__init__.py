"""Every figure of both papers, by `lbcheck figure`.

content    what a figure holds: numbers, before they are painted
index      name -> what it is and where its numbers come from
sources    studies and folders of runs, as a figure reads them
schedules, boxes, grid, curves, scaling, ratios   families of figures
painter    PNG, SVG or PDF of a figure
miniatures/   records of small studies, with their command and commit

Importing this package imports no framework.
"""
