"""The main job, from sources to a report: the rooms below, put in order."""
