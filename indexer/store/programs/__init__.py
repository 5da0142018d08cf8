"""Programs in the database: Python code keeps tables of its own by handling events in the order of the chain.

A *generation* is one build of a program's tables on one chain; its row says how far they go. One process writes it at
a time (a lease), in transactions that present the row's ``version``, and each moves tables and position together.

States of a generation: *far* (``near`` is false: it handles finalized blocks only, in large steps) -> *near* (it
handles blocks that can be reorganised, and keeps what each of them changed). Either *stands still* with a problem until
its code is mended, or is *not live* any more: other code, or rows that were changed below its position, begin another
generation, while the old one is served, marked stale, until the new one has come as far.

What changes rows says so here, in its own transaction: a reorganisation takes back what the dropped blocks changed
(:func:`~indexer.store.programs.disturbances.take_back`); everything else that changes rows below a position disturbs
the program (``gapless.program_disturbances``), by a trigger on ``gapless.sources`` and by
:func:`~indexer.store.programs.disturbances.note_changed`.

* ``program_generations``: the rows of ``gapless.programs``: begun, served, frozen, deleted.
* ``program_tables``: the tables of a generation, in the schema ``derived``, and writing to them.
* ``scratch_tables``: the same as temporary ones, for a replay that is compared with what is kept.
* ``program_inputs``: how far a program may go, and the events that come next.
* ``disturbances``: what a program hears of rows that were changed.
* ``standstills``: why a program makes no progress, also one that has no generation yet.
"""
