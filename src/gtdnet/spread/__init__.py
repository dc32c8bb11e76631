"""Work that is spread over processes which may die: of this machine, or of a Ray cluster.

:mod:`.crew` runs processes, one job each at a time; :mod:`.on_ray` has a pool of Ray's actors, each
with such a process; :mod:`.each` calls a function for each of many jobs by either.
"""
