"""Many clips, many processes and machines: a listing in, Parquet shards of answers out.

:mod:`.listing` says which clips there are, block by block; :mod:`.scorer` answers a block;
:mod:`.shards` keeps the answers, a file for each block; :mod:`.crew` runs processes that may die;
:mod:`.processes` and :mod:`.on_ray` spread the blocks; :mod:`.run` puts it together.
"""
