"""The logs of ranges (history) and of blocks (the head).

A range is believed only with a proof that the machine that answered has its last block: its header in the same batch,
or a log of that block. A node that answers with less than it should is found by blooms: at the head always, in history
as ``check_history`` says; and by ``audit``.

* ``scan``: all logs of some ranges, a few requests ahead of the reader. ``fetch``: one range with its proof, and the
  hashes and times of its blocks. ``range_proof``: the proof where header and logs are answers of their own.
* ``history_check``: history compared with the blooms of headers.
* ``address_slices``: lists that are too long for one question.
* ``branch``: headers and logs that provably belong to one branch. ``known_blocks``: the same with the fewest questions
  where the headers are known already. ``block_logs``: the logs of blocks by hash, and answers that are too large.
* ``earliest_log``: whether an address emitted a log before a block. ``sampling``: what reading some ranges will take.
"""
