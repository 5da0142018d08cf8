"""``gapless run``: which job runs when, for every chain of the manifest, until it is told to stop.

The scheduler gives each chain its jobs (follow, backfill, include, tokens, snapshots, balances), one beat at a time
on a thread pool. A beat that fails is told once and tried again with growing pauses; a chain that is *halted* (its
nodes contradict finalized rows) is looked at again and goes on by itself. A scheduler that died ends the process, so
that a supervisor starts it again.

* ``scheduler``: the chains and their jobs, begun and ended as the manifest asks.
* ``chain_at_work``: a chain's client and follower, its trouble, and how its work is ended.
* ``jobs``: one beat of each piece of work, and what is told of its trouble.
* ``chain_jobs``: which jobs a chain has and when they run; when a halted chain is looked at again.
* ``stalled_chains``: which chains stand still, told once.
* ``program_tasks``: which programs of a manifest are to run.
* ``program_audit``: programs replayed for audits, each in a process of its own.
* ``job_queue``: jobs that were asked for through the API.
* ``manifest_watcher``: changes of the manifest, of ABI files, and of what was applied.
* ``metrics``: figures for Prometheus.
"""
