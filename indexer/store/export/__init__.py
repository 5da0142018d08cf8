"""Files of an event's rows, for engines that read folders: ``gapless export``.

A folder holds one table's files, each of the rows of a range of blocks, and ``_manifest.json``, which names them: the
manifest is what the folder says. A file is written beside the others under a name that none of them had, then the
manifest is replaced, then what the file replaces is deleted. So a reader of the manifest finds a whole table at any
instant, also after a kill; files that no manifest names are deleted by the next run.

Every file is read in one snapshot together with the coverage of its blocks. The manifest keeps a checksum of a file's
rows as Postgres computes it; once history changed anything of the event, the checksums are compared, and files of
other rows are written anew. Postgres' rows are never changed here.

* ``run``: one export, from the manifest that is there to the one that should be. ``file_plan``: which ranges that
  takes; pure. ``exported_ranges``: what of a table may be exported now.
* ``folder``: a directory or a bucket. ``folder_manifest``: the document.
* ``range_file``: one file. ``parquet_columns``: the columns of a table in Parquet. ``text_columns``: in CSV and NDJSON.
* ``copy_reader``, ``copy_numbers``: COPY's binary form into Arrow columns. They and ``parquet_columns`` are what the
  API's exports use: they import nothing but pyarrow and numpy.
"""
