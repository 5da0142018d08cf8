"""What nodes answer, as typed and checked records, and the pure rules about them. No I/O; the time is passed in.

* ``errors``: what can go wrong between us and a node, in classes that each have one answer.
* ``messages``: JSON-RPC envelopes, blocks and logs, parsed from the raw bytes.
* ``header_hash``: a header held against its hash.
* ``log_filter``: the filter of ``eth_getLogs``, how it is cut, and whether a bloom may hold it.
* ``validation``: logs as they come, held against the question.
* ``column_reader``, ``log_columns``: the same for many logs at once: columns straight from the answer's bytes; and a
  range of blocks as it was read. ``text_layout``, ``log_groups``: how objects are written, learned from one of them,
  and what logs that were read so have in common.
* ``completeness``: what blooms, a block's hash and a log at the range's end say of missing logs.
* ``spared_questions``: what an endpoint has shown that lets a question about its newest block be left out.
* ``range_control``: how wide the next question is.
"""
