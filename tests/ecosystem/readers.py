"""Reads JSON Lines files as one library does when it is told to be strict.

For each file it prints its name, how many records there are, and the sum of their `n`; or its name and what went wrong.
"""

import json
import os.path
import sys


def python(path):
    def refuse(constant):
        raise ValueError(f"{constant} is no JSON")

    def once(members):
        assert len(dict(members)) == len(members), "a key is there twice"
        return dict(members)

    text = open(path, "rb").read().decode("utf-8", "strict")
    lines = text.split("\n")
    assert lines.pop() == "", "the last line lacks its LF"
    records = [json.loads(line, parse_constant=refuse, object_pairs_hook=once) for line in lines]
    return len(records), sum(record.get("n", 0) for record in records)


def duckdb(path):
    import duckdb

    query = "from read_json(?, format = 'newline_delimited', ignore_errors = false, sample_size = -1, union_by_name = true)"
    columns = [column[0] for column in duckdb.execute(f"describe {query}", [path]).fetchall()]
    total = "sum(n)" if "n" in columns else "0"
    return duckdb.execute(f"select count(*), {total} {query}", [path]).fetchone()


def polars(path):
    import polars

    frame = polars.read_ndjson(path, infer_schema_length=None, ignore_errors=False)
    return frame.height, frame["n"].sum() if "n" in frame.columns else 0


def pandas(path):
    import pandas

    frame = pandas.read_json(path, lines=True)
    return len(frame), frame["n"].sum() if "n" in frame.columns else 0


name, *paths = sys.argv[1:]
read = {"python": python, "duckdb": duckdb, "polars": polars, "pandas": pandas}[name]
for path in paths:
    try:
        records, total = read(path)
        found = f"{records} {int(total or 0)}"
    except Exception as error:
        found = f"{type(error).__name__}: {error}".replace("\n", " ")
    print(os.path.basename(path), found)
